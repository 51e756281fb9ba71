//! An image to predict: in a file, from standard input, or by its URL.

use super::remote::Remote;
use anyhow::Result;
use mrcnn_core::config::Depth;
use mrcnn_core::image::decode::{DecodeError, Decoded, decode_large, decode_large_bytes};
use std::io::Read;
use std::path::{Path, PathBuf};

/// An image to predict.
#[derive(Debug)]
pub struct Input {
    /// The path of the file; for other origins, a file name from which the names of the results are made.
    pub path: PathBuf,
    pub image_id: u64,
    /// Name of the image in the results.
    pub file_name: String,
    pub origin: Origin,
}

/// Source of an image.
#[derive(Debug)]
pub enum Origin {
    /// [`Input::path`].
    File,
    Stdin,
    Url(Remote),
}

impl Input {
    pub fn is_file(&self) -> bool {
        matches!(self.origin, Origin::File)
    }

    /// Its name in messages.
    pub fn shown(&self) -> String {
        match &self.origin {
            Origin::File | Origin::Stdin => self.path.display().to_string(),
            Origin::Url(_) => self.file_name.clone(),
        }
    }

    /// Reads the image.
    pub fn decode(&self, depth: Depth) -> Result<Decoded> {
        let bytes = match &self.origin {
            Origin::File => return Ok(decode_large(&self.path, depth)?),
            Origin::Url(url) => url.bytes()?,
            Origin::Stdin => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().read_to_end(&mut bytes);
                read.map_err(|source| DecodeError::Io {
                    path: self.path.clone(),
                    source,
                })?;
                bytes
            }
        };
        Ok(decode_large_bytes(&bytes, Path::new(&self.shown()), depth)?)
    }
}
