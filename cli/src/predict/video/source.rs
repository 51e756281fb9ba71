//! Sources of the frames of a video.

use super::live::Live;
use crate::predict::remote::Remote;
use std::path::PathBuf;

/// A video or a camera.
#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    Url(Remote),
    Live(Live),
}

impl Source {
    /// Its name in messages.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url) => url.name().into(),
            Self::Live(live) => live.name.clone(),
        }
    }

    /// The part of its name that is used in the names of results.
    pub fn stem(&self) -> String {
        let stem = |path: PathBuf| {
            let stem = path.file_stem().unwrap_or_default();
            stem.to_string_lossy().into_owned()
        };
        match self {
            Self::File(path) => stem(path.clone()),
            Self::Url(url) => stem(url.file_name().into()),
            Self::Live(live) => live.stem(),
        }
    }
}
