//! Weights by path or by name, as `--weights` of several commands takes them.

#[cfg(feature = "download")]
mod download;

#[cfg(feature = "download")]
pub use download::{fetch_shown, megabytes};

use anyhow::Result;
use clap::Args;
#[cfg(feature = "download")]
use mrcnn_core::pretrained::{FetchOptions, Located, locate};
use mrcnn_core::weights::WeightsSource;
use std::path::Path;

/// What the weights must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Detection heads.
    Detector,
    /// A backbone at least.
    Backbone,
}

#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Use no network: a pretrained model must be in the cache, and URLs are refused (as with MRCNN_OFFLINE=1)
    #[cfg(feature = "download")]
    #[arg(long)]
    offline: bool,
}

impl FetchArgs {
    /// Whether the option forbids the network. `MRCNN_OFFLINE` is not considered.
    pub fn is_offline(&self) -> bool {
        #[cfg(feature = "download")]
        return self.offline;
        #[cfg(not(feature = "download"))]
        false
    }

    /// The weights that `value` names: a file, or a pretrained model, which is downloaded unless it is in the cache. Only
    /// the process that is to `print` shows the progress.
    pub fn source(
        &self,
        value: &Path,
        needed: Needed,
        print: bool,
    ) -> Result<WeightsSource<'static>> {
        #[cfg(feature = "download")]
        if let Located::Model(model) = locate(value)? {
            if needed == Needed::Detector {
                model.check_detector()?;
            }
            let mut options = FetchOptions::from_env()?;
            options.offline |= self.offline;
            return Ok(fetch_shown(&model, &options, print)?.into());
        }
        // A file has what it has, and there is no progress.
        let _ = (needed, print);
        Ok(value.to_path_buf().into())
    }
}
