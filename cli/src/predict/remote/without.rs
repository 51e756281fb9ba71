//! URLs in a build without downloads.

use anyhow::{Result, bail};
use std::path::Path;

/// A URL, of which there is none in this build.
#[derive(Clone, Debug)]
pub enum Remote {}

impl Remote {
    pub(super) fn new(url: &str, _offline: bool) -> Result<Self> {
        bail!(
            "{url}: this program was built without downloads (the feature `download`); download the file in another way, \
             and give it by its path"
        )
    }

    pub fn name(&self) -> &str {
        match *self {}
    }

    pub fn file_name(&self) -> String {
        match *self {}
    }

    pub fn bytes(&self) -> Result<Vec<u8>> {
        match *self {}
    }

    pub fn save(&self, _path: &Path) -> Result<()> {
        match *self {}
    }
}
