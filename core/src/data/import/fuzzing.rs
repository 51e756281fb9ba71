//! Fuzzing entry points of the parsers in this folder.

use super::records::Records;
use super::{
    cvat as of_cvat, data_yaml as yaml, labelme as of_labelme, lvis, via as of_via, voc, yolo,
};
use crate::budget::Budget;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

/// `data.yaml` of a YOLO dataset.
pub fn data_yaml(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    yaml::DataYaml::parse(&text).is_ok()
}

/// A label file of YOLO-seg.
pub fn yolo_label(bytes: &[u8]) -> bool {
    let names = BTreeMap::from([(0, "a".to_string()), (1, "b".to_string())]);
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .all(|line| yolo::parse_line(line, &names).is_ok())
}

/// TFRecords with their `tf.Example` messages.
pub fn tfrecord(bytes: &[u8]) -> bool {
    let records = Records::new(Path::new("fuzzed"), Cursor::new(bytes), bytes.len() as u64);
    records.into_iter().all(|record| record.is_ok())
}

/// `annotations.xml` of CVAT.
pub fn cvat(bytes: &[u8]) -> bool {
    of_cvat::is_sound(bytes)
}

/// A file of labelme.
pub fn labelme(bytes: &[u8]) -> bool {
    of_labelme::is_sound(&String::from_utf8_lossy(bytes))
}

/// A file of VIA.
pub fn via(bytes: &[u8]) -> bool {
    of_via::is_sound(&String::from_utf8_lossy(bytes))
}

/// An LVIS file.
pub fn lvis(bytes: &[u8]) -> bool {
    let text = crate::data::json::decode_text(Cursor::new(bytes.to_vec()));
    text.is_ok_and(|text| lvis::Contents::read(text, bytes.len() as u64).is_ok())
}

/// A mask of Pascal VOC.
pub fn voc_mask(bytes: &[u8]) -> bool {
    let budget = Budget::for_file(bytes.len() as u64);
    let found = voc::object_numbers(Cursor::new(bytes));
    found.is_ok_and(|(size, numbers)| voc::object_masks(&numbers, size, 254, &budget).is_ok())
}
