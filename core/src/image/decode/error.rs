//! Errors of decoding an image.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// Errors of decoding an image.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The file cannot be opened.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file is not an image, or it is damaged.
    #[error("{path}: not a readable image ({reason}); PNG, JPEG, WebP, TIFF and BMP are read")]
    Format {
        /// The path of the file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// A [`DatasetSource`](crate::data::DatasetSource) failed to return the image.
    #[error("{path}: its dataset cannot return the image: {reason}")]
    Source {
        /// The name of the image.
        path: PathBuf,
        /// The source's error.
        reason: String,
    },
    /// The image has no pixels or too many.
    #[error("{path}: {width}x{height} pixels; 1 to {} megapixels are read", most / 1_000_000)]
    Size {
        /// The path of the file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Maximum number of pixels.
        most: u64,
    },
}

pub(super) fn format_error(path: &Path, reason: &impl std::fmt::Display) -> DecodeError {
    DecodeError::Format {
        path: path.into(),
        reason: one_line(reason),
    }
}

/// Joins the lines of an error message; some decoders write several.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
