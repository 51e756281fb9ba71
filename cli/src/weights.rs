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

/// Parts that the weights must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredPart {
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

    /// Locates the weights that `value` names: a file, or a pretrained model, which is downloaded unless it is in the
    /// cache. The progress is shown if `print`.
    pub fn source(
        &self,
        value: &Path,
        needed: RequiredPart,
        print: bool,
    ) -> Result<WeightsSource<'static>> {
        #[cfg(feature = "download")]
        if let Located::Model(model) = locate(value)? {
            if needed == RequiredPart::Detector {
                model.check_detector()?;
            }
            let mut options = FetchOptions::from_env()?;
            options.offline |= self.offline;
            return Ok(fetch_shown(&model, &options, print)?.into());
        }
        // The parts of a file are checked when it is read, and there is no download.
        let _ = (needed, print);
        Ok(value.to_path_buf().into())
    }
}
