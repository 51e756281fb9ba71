//! Why weights could not be read or written.

use std::path::PathBuf;
use thiserror::Error;

/// Why weights could not be read or written.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a file of its kind, or a damaged one.
    #[error("{path}: not a readable {kind} file: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it was taken for: safetensors, PyTorch, pickle, TensorFlow checkpoint.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The header does not describe a model of ours.
    #[error(
        "{path}: the header has no usable `{key}` ({reason}); was it written by mrcnn-cli train?"
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// The missing or broken entry.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Names or shapes do not fit the model.
    #[error("{path}: {count} tensors do not fit the model: {details}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// How many do not fit.
        count: usize,
        /// The first few, and why.
        details: String,
    },
    /// A readable file, but not of a network that this crate has.
    #[error("{path}: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        reason: String,
    },
}
