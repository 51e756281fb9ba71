//! Errors of reading and writing weights.

use std::path::PathBuf;
use thiserror::Error;

/// Errors of reading and writing weights.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file has another format or is damaged.
    #[error("{path}: not a readable {kind} file: {reason}")]
    Format {
        /// The path of the file.
        path: PathBuf,
        /// The expected format: safetensors, PyTorch, pickle, TensorFlow checkpoint.
        kind: &'static str,
        /// The fault.
        reason: String,
    },
    /// The header does not describe a model of this crate.
    #[error(
        "{path}: the header has no usable `{key}` ({reason}); use a file that `mrcnn-cli train` or `convert` wrote"
    )]
    Header {
        /// The path of the file.
        path: PathBuf,
        /// The missing or invalid entry.
        key: &'static str,
        /// The fault.
        reason: String,
    },
    /// Names or shapes do not match the model.
    #[error("{path}: {count} tensors do not match the model: {details}")]
    Mismatch {
        /// The path of the file.
        path: PathBuf,
        /// Number of tensors that do not match.
        count: usize,
        /// The first few, with reasons.
        details: String,
    },
    /// A tensor has values that are NaN or infinite.
    #[error(
        "{path}: {name} has {count} values that are not finite, so the network would predict nothing: use an \
         earlier checkpoint, or train again with a lower train.learning_rate"
    )]
    NotFinite {
        /// The path of the file.
        path: PathBuf,
        /// The first such tensor.
        name: String,
        /// Number of such values in it.
        count: usize,
    },
    /// Values that the dtype of the file cannot hold.
    #[error(
        "{path}: {count} values are beyond f16's 65504, the first {value} in {name}: write f32, or clamp \
         them to 65504 with --allow-overflow"
    )]
    Overflow {
        /// The path of the file.
        path: PathBuf,
        /// Number of such values.
        count: usize,
        /// The tensor with the first one.
        name: String,
        /// The first one.
        value: f32,
    },
    /// The file is readable, but the network is not supported.
    #[error("{path}: {reason}")]
    Unsupported {
        /// The path of the file.
        path: PathBuf,
        /// The kind of the file, and the fix.
        reason: String,
    },
    /// A pretrained model cannot be found, downloaded or used.
    #[cfg(feature = "download")]
    #[error(transparent)]
    Pretrained(#[from] crate::pretrained::PretrainedError),
}
