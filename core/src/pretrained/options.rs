//! Settings of downloads.

use super::error::PretrainedError;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Location of the models and settings of their downloads; [`Self::from_env`] has the usual values.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// The folder of the files.
    pub folder: PathBuf,
    /// A mirror: the name of the file is appended to this URL. `None` uses the URL of the list.
    pub base_url: Option<String>,
    /// Whether the network may not be used.
    pub offline: bool,
    /// Longest time without a connection, an answer, or any data.
    pub timeout: Duration,
    /// Number of attempts without progress before the download fails.
    pub attempts: u32,
    /// Pause after the first failed attempt; it doubles after each.
    pub pause: Duration,
}

impl FetchOptions {
    /// The settings of the environment variables in the documentation of [`super`].
    ///
    /// # Errors
    ///
    /// If neither `MRCNN_CACHE` nor the system names a folder.
    pub fn from_env() -> Result<Self, PretrainedError> {
        Ok(Self {
            folder: folder(&|name| std::env::var_os(name))?,
            base_url: std::env::var("MRCNN_MODEL_BASE_URL")
                .ok()
                .filter(|url| !url.is_empty()),
            offline: is_offline(),
            timeout: Duration::from_secs(30),
            attempts: 4,
            pause: Duration::from_secs(1),
        })
    }
}

/// Whether `MRCNN_OFFLINE` forbids the network.
pub(super) fn is_offline() -> bool {
    std::env::var_os("MRCNN_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0")
}

/// The folder of downloaded models, by the values of environment variables.
fn folder(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, PretrainedError> {
    let path = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let system = || {
        if cfg!(windows) {
            Some(path("LOCALAPPDATA")?.join("mrcnn"))
        } else if cfg!(target_os = "macos") {
            Some(path("HOME")?.join("Library/Caches/mrcnn"))
        } else {
            // A relative path is to be ignored, by the specification of this variable.
            let named = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
            Some(
                named
                    .or_else(|| Some(path("HOME")?.join(".cache")))?
                    .join("mrcnn"),
            )
        }
    };
    let folder = path("MRCNN_CACHE")
        .or_else(system)
        .ok_or(PretrainedError::NoFolder)?;
    Ok(folder.join("models"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_that_of_the_system_unless_one_is_named() {
        let at = |values: &[(&str, &str)]| {
            let values: Vec<(String, OsString)> = values
                .iter()
                .map(|(name, value)| (name.to_string(), value.into()))
                .collect();
            folder(&|name| {
                values
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.clone())
            })
            .map(|path| path.display().to_string())
        };
        assert_eq!(
            at(&[("HOME", "/home/a")]).unwrap(),
            "/home/a/.cache/mrcnn/models"
        );
        let xdg = [("HOME", "/home/a"), ("XDG_CACHE_HOME", "/x")];
        assert_eq!(at(&xdg).unwrap(), "/x/mrcnn/models");
        assert_eq!(
            at(&[("MRCNN_CACHE", "/c"), ("HOME", "/home/a")]).unwrap(),
            "/c/models"
        );
        assert!(
            at(&[("HOME", "")])
                .unwrap_err()
                .to_string()
                .contains("MRCNN_CACHE")
        );
    }
}
