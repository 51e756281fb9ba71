//! Progress of downloads.

use std::path::Path;
use std::time::Duration;

/// A step of [`fetch`](super::fetch), for a program that shows its progress.
#[derive(Clone, Copy, Debug)]
pub enum FetchEvent<'a> {
    /// Another process downloads the model.
    Waiting,
    /// The download begins.
    Starting {
        /// The URL.
        url: &'a str,
        /// The path of the file in the cache.
        path: &'a Path,
        /// Length of the file in bytes, by the list.
        size: Option<u64>,
    },
    /// Some of the file has arrived.
    Received {
        /// Number of bytes so far, those of an earlier attempt included.
        done: u64,
        /// Length of the file in bytes, by the server.
        total: Option<u64>,
    },
    /// The connection failed; another attempt follows.
    Retrying {
        /// The failure.
        reason: &'a str,
        /// The time until then.
        pause: Duration,
    },
    /// The hash of the file is computed.
    Checking,
}
