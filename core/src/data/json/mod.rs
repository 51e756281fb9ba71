//! Streaming reader of COCO-like JSON files: values are parsed element by element, so that memory follows
//! what is kept and not the size of the file.

mod element;
mod encoding;
mod fields;
mod foreign;
mod scanner;
mod segmentation;

pub(crate) use element::{Element, Section};
#[cfg(feature = "fuzzing")]
pub(crate) use encoding::decode_text;
pub(crate) use encoding::{open_text, read_text};
pub(crate) use fields::{Field, Flag, Id, Number, Numbers, Text};
pub(crate) use foreign::Foreign;
pub(crate) use scanner::{ScanError, parse_element, scan, scan_text};
pub(crate) use segmentation::{Counts, RawSegmentation};
