//! Images and videos by URL.

#[cfg(feature = "download")]
mod client;
#[cfg(not(feature = "download"))]
mod without;

#[cfg(feature = "download")]
pub use client::Remote;
#[cfg(not(feature = "download"))]
pub use without::Remote;

use anyhow::{Result, bail};
use mrcnn_core::data::printable;
use std::ffi::OsStr;

impl Remote {
    /// Parses an argument as a URL; `None` if it is not one.
    pub fn parse(argument: &OsStr, offline: bool) -> Result<Option<Self>> {
        let Some((scheme, _)) = argument.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(None);
        };
        // `C://` is a path.
        if scheme.len() < 2 {
            return Ok(None);
        }
        let text = argument.to_string_lossy();
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Self::new(&text, offline).map(Some),
            // A pattern, or the source of a video filter.
            _ if !scheme.chars().all(|c| c.is_ascii_alphanumeric()) => Ok(None),
            _ => bail!(
                "{}: URLs of http and https are read; download it, and give the file by its path",
                printable(&text)
            ),
        }
    }
}
