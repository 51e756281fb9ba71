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
    /// A tensor has values that are NaN or infinite.
    #[error(
        "{path}: {name} has {count} values that are not finite, so the network would predict nothing: take an \
         earlier checkpoint, or train again with a lower train.learning_rate"
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first tensor.
        name: String,
        /// How many values of it.
        count: usize,
    },
    /// Values that the dtype of the file cannot hold.
    #[error(
        "{path}: {count} values are beyond f16's 65504, the first {value} in {name}: write f32, or take 65504 for \
         them with --allow-overflow"
    )]
    Overflow {
        /// The file.
        path: PathBuf,
        /// How many values.
        count: usize,
        /// The tensor of the first one.
        name: String,
        /// The first one.
        value: f32,
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
