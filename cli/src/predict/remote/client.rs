//! Downloads of images and videos.

use crate::progress::bar;
use anyhow::Result;
use mrcnn_core::pretrained::{UrlOptions, get_bytes, get_file, public_url, url_file_name};
use std::path::Path;

/// Maximum size of an image in bytes: more than 100 megapixels without compression.
const IMAGE: u64 = 512_000_000;

/// Maximum size of a video in bytes.
const VIDEO: u64 = 4_000_000_000;

/// A URL of `http` or `https`.
#[derive(Clone, Debug)]
pub struct Remote {
    url: String,
    /// The URL without its query, which may contain a password.
    name: String,
    offline: bool,
}

impl Remote {
    pub(super) fn new(url: &str, offline: bool) -> Result<Self> {
        Ok(Self {
            url: url.into(),
            name: public_url(url),
            offline,
        })
    }

    /// The URL in messages and results.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the file.
    pub fn file_name(&self) -> String {
        url_file_name(&self.url)
    }

    fn options(&self, limit: u64) -> UrlOptions {
        let mut options = UrlOptions::from_env(limit);
        options.offline |= self.offline;
        options
    }

    /// The content, into memory.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        Ok(get_bytes(&self.url, &self.options(IMAGE))?)
    }

    /// The content, into a file, with its progress on stderr.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bar = bar(
            0,
            "downloading {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
        );
        let saved = get_file(&self.url, path, &self.options(VIDEO), &mut |done, total| {
            bar.set_length(total.unwrap_or(done));
            bar.set_position(done);
        });
        bar.finish_and_clear();
        Ok(saved?)
    }
}
