//! Streaming reader of COCO-like JSON files: values are parsed element by element, so that memory depends on
//! what is kept and not on the size of the file.

mod element;
mod encoding;
mod fields;
mod foreign;
mod parse;
mod scanner;
mod segmentation;

pub(crate) use element::{Element, Section};
#[cfg(any(test, all(feature = "convert", feature = "train")))]
pub(crate) use encoding::decode_text;
#[cfg(feature = "train")]
pub(crate) use encoding::open_text;
pub(crate) use encoding::read_text;
pub(crate) use fields::{Field, Flag, Id, Number, Numbers, Text};
pub(crate) use foreign::Foreign;
pub(crate) use parse::parse_element;
#[cfg(any(test, feature = "train"))]
pub(crate) use scanner::scan_text;
pub(crate) use scanner::{ScanError, scan};
pub(crate) use segmentation::{Counts, RawSegmentation};
