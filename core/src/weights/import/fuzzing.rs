//! Fuzzing entry points of the parsers in this folder.

use super::{pickle as reader, table as tables, torch};
use std::io::Cursor;

/// A pickle of numpy arrays.
pub fn pickle(bytes: &[u8]) -> bool {
    torch::read_arrays(bytes).is_ok() && reader::read(bytes).is_ok()
}

/// A zip archive of `torch.save`.
pub fn torch_zip(bytes: &[u8]) -> bool {
    torch::read_zip(Cursor::new(bytes), bytes.len() as u64).is_ok()
}

/// A file of torch before 1.6.
pub fn torch_legacy(bytes: &[u8]) -> bool {
    torch::read_legacy(bytes).is_ok()
}

/// The index of a TensorFlow checkpoint.
pub fn table(bytes: &[u8]) -> bool {
    tables::read(bytes).is_ok()
}
