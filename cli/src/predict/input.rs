//! An image to predict, in a file or from standard input.

use mrcnn_core::config::Depth;
use mrcnn_core::image::decode::{DecodeError, Decoded, decode_bytes_with, decode_with};
use std::io::Read;
use std::path::PathBuf;

/// An image to predict.
#[derive(Clone, Debug)]
pub struct Input {
    pub path: PathBuf,
    pub image_id: u64,
    /// Name of the image in the results.
    pub file_name: String,
    /// Whether `path` is a file; otherwise the image is read from standard input.
    pub is_file: bool,
}

impl Input {
    /// Reads the image.
    pub fn decode(&self, depth: Depth) -> Result<Decoded, DecodeError> {
        if self.is_file {
            return decode_with(&self.path, depth);
        }
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|source| DecodeError::Io {
                path: self.path.clone(),
                source,
            })?;
        decode_bytes_with(&bytes, &self.path, depth)
    }
}
