//! Entry points for fuzzers (`tests/tests/fuzz`): parsers of untrusted files, called with bytes. Not part of the API.
//!
//! Every function returns whether the input was accepted; rejecting it is no failure. A failure is a panic, or more
//! memory or time than the input justifies.

use crate::config::Config;
use crate::image::decode::decode_bytes;
use std::path::Path;

const NAME: &str = "fuzzed";

/// PNG, JPEG, WebP, BMP.
pub fn decode(bytes: &[u8]) -> bool {
    decode_bytes(bytes, Path::new(NAME)).is_ok()
}

pub use crate::data::fuzzing::{annotation, class_list, coco, rle};

/// Annotations and results of `eval --results`, separated by a zero byte; both are evaluated.
pub fn results(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (annotations, results) = (parts.next(), parts.next());
    let options = crate::eval::EvalOptions::default();
    let [annotations, results] = [annotations, results].map(Option::unwrap_or_default);
    crate::eval::evaluate_bytes(annotations, results, &options).is_ok()
}

/// Weights of this crate.
pub fn safetensors(bytes: &[u8]) -> bool {
    crate::weights::load_bytes(bytes, Path::new(NAME)).is_ok()
}

/// A configuration file.
pub fn config_toml(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    Config::parse(&text, Path::new(NAME), &[]).is_ok()
}

pub use crate::weights::import::fuzzing::{pickle, table, torch_legacy, torch_zip};

pub use crate::data::import::fuzzing::{
    cvat, data_yaml, labelme, lvis, tfrecord, via, voc_mask, yolo_label,
};

/// The messages of a process that requests the id of a job from rank 0.
pub use mrcnn_backends::comm::fuzzing::{hello, rendezvous_hello};

/// The progress file of a checkpoint.
pub fn progress_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<crate::train::Progress>(bytes).is_ok()
}
