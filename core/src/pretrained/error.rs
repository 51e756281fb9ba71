//! Errors of pretrained models.

use std::path::PathBuf;
use thiserror::Error;

/// Errors of finding, downloading and using a pretrained model.
#[derive(Debug, Error)]
pub enum PretrainedError {
    /// No model has this name.
    #[error(
        "`{name}` is neither a file nor the name of a pretrained model{nearest}; `mrcnn-cli models` lists the models, \
         and a path with a `/` is always a file"
    )]
    UnknownName {
        /// The name as given.
        name: String,
        /// ` (the nearest names are ...)`, or nothing.
        nearest: String,
    },
    /// The list of one's own models is invalid.
    #[error("{path}: {reason} (MRCNN_MODELS names this file; docs/models.md has its format)")]
    List {
        /// The path of the file.
        path: PathBuf,
        /// The entry, what is wrong, and what to do.
        reason: String,
    },
    /// The model is a backbone, but a detector is required.
    #[error(
        "{name} is a backbone, trained to classify images: it detects nothing before it is trained with \
         `mrcnn-cli train --weights {name}`"
    )]
    Backbone {
        /// The name of the model.
        name: String,
    },
    /// The model is not in the cache, and the network may not be used.
    #[error(
        "{name} is not in the cache, and --offline or MRCNN_OFFLINE forbids the network: download {url} on another \
         machine and copy it to {path}, or give a file by its path"
    )]
    Offline {
        /// The name of the model.
        name: String,
        /// The URL of its file.
        url: String,
        /// The path of its file in the cache.
        path: PathBuf,
    },
    /// The download failed.
    #[error(
        "{url}: {reason}; if this machine has no network, download the file on another one and copy it to {path}, set \
         MRCNN_MODEL_BASE_URL to a mirror, or give a file by its path"
    )]
    Download {
        /// The URL.
        url: String,
        /// The failure.
        reason: String,
        /// The path of the file in the cache.
        path: PathBuf,
    },
    /// The file has another hash than expected.
    #[error("{what}: its SHA-256 is {found}, and {expected} is expected: {fix}")]
    Hash {
        /// The URL or the path.
        what: String,
        /// The digest of the file.
        found: String,
        /// The digest of the list, or its first digits.
        expected: String,
        /// The fix.
        fix: String,
    },
    /// The cache cannot be read or written.
    #[error("{path}: {source}; {fix}")]
    Cache {
        /// The folder or the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
        /// The fix.
        fix: String,
    },
    /// The system has no cache folder.
    #[error(
        "there is no folder for downloaded models, because HOME is not set: set MRCNN_CACHE to a folder"
    )]
    NoFolder,
    /// The certificate authorities of `SSL_CERT_FILE` cannot be used.
    #[error("{path}: {reason}; SSL_CERT_FILE must name a PEM file with certificate authorities")]
    Certificates {
        /// The path of the file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
}
