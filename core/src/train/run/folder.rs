//! The folder of a run: arguments, metrics, weights, images, curves.

use super::lock::RunLock;
use crate::config::Config;
use crate::disk;
use crate::train::error::TrainError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of a run; a folder that already contains a run is never reused.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held until the run ends, on the rank that writes.
    _lock: Option<RunLock>,
}

impl RunFolder {
    /// Logs of the ranks of `--gpus`, in the run folder.
    pub const RANKS: &str = "ranks";

    /// Creates `path` and locks it. If it is not empty or another process uses it, the folder is `path-2`,
    /// `path-3` and so on.
    pub fn create(path: &Path, config: &Config) -> Result<Self, TrainError> {
        let folder = Self::reserve(path)?;
        folder.write_args(config)?;
        Ok(folder)
    }

    /// The folder that [`Self::create`] creates, still without a configuration.
    pub fn reserve(path: &Path) -> Result<Self, TrainError> {
        for candidate in candidates(path) {
            if let Some(folder) = Self::claim(&candidate)? {
                return Ok(folder);
            }
        }
        let source = ErrorKind::AlreadyExists.into();
        Err(io_error(path, source))
    }

    /// Creates and locks the folder; `None` if it is not empty or in use. If two processes try at once, one gets it.
    fn claim(path: &Path) -> Result<Option<Self>, TrainError> {
        let io = |source| io_error(path, source);
        disk::create_folder(disk::parent(path)).map_err(io)?;
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => created.map_err(io)?,
        }
        if !is_unused(path) {
            return Ok(None);
        }
        let lock = match RunLock::take(path) {
            Err(TrainError::InUse { .. }) => return Ok(None),
            lock => lock?,
        };
        // Another process may have used and released it in between.
        if !is_unused(path) {
            return Ok(None);
        }
        disk::sync_folder(disk::parent(path)).map_err(io)?;
        Ok(Some(Self {
            path: path.into(),
            _lock: Some(lock),
        }))
    }

    /// Writes the configuration of the run to `args.toml`, atomically.
    pub fn write_args(&self, config: &Config) -> Result<(), TrainError> {
        let args = Self::args(&self.path);
        let text = toml::to_string(config).map_err(std::io::Error::other);
        text.and_then(|text| disk::write_durably(&args, |out| out.write_all(text.as_bytes())))
            .map_err(|source| io_error(&args, source))
    }

    /// Opens the folder of a run to be resumed: locks it and removes unfinished files of a killed process,
    /// which may fill the disk.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        if !path.is_dir() {
            let source = std::io::Error::new(ErrorKind::NotFound, "no such run folder");
            return Err(io_error(path, source));
        }
        let folder = Self {
            _lock: Some(RunLock::take(path)?),
            path: path.into(),
        };
        let written = [Self::args(path), folder.best(), folder.last()];
        disk::remove_partial(&written).map_err(|source| io_error(path, source))?;
        Ok(folder)
    }

    /// The folder of a run that another rank owns: nothing is written.
    pub fn unlocked(path: &Path) -> Self {
        Self {
            path: path.into(),
            _lock: None,
        }
    }

    /// The log file of the run's console output.
    pub fn log(&self) -> PathBuf {
        self.path.join("train.log")
    }

    /// The configuration of a run.
    pub fn args(path: &Path) -> PathBuf {
        path.join("args.toml")
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest weights.
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// The weights with the best mask AP.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// Images of the validation set with ground truth and prediction.
    pub fn val_predictions(&self) -> PathBuf {
        self.path.join("val_predictions")
    }

    /// Checkpoints to resume from.
    pub fn checkpoints(&self) -> PathBuf {
        Self::checkpoints_in(&self.path)
    }

    /// The checkpoint of a step.
    pub(crate) fn checkpoint(&self, step: usize) -> PathBuf {
        self.checkpoints().join(format!("{step:08}"))
    }

    /// Checkpoints of the run in a folder.
    pub fn checkpoints_in(path: &Path) -> PathBuf {
        path.join("checkpoints")
    }

    /// The metrics log.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The report at the end.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The dump of a batch whose loss was not finite.
    pub fn not_finite(&self, step: usize) -> PathBuf {
        free_name(&self.path.join(format!("not_finite_{step:08}")))
    }
}

fn io_error(path: &Path, source: std::io::Error) -> TrainError {
    TrainError::Io {
        path: path.into(),
        source,
    }
}

/// Whether a folder contains nothing but files that are created before its run starts.
fn is_unused(path: &Path) -> bool {
    let made_before = |name: &std::ffi::OsStr| name == RunLock::NAME || name == RunFolder::RANKS;
    match std::fs::read_dir(path) {
        Ok(mut entries) => {
            entries.all(|entry| entry.is_ok_and(|entry| made_before(&entry.file_name())))
        }
        Err(_) => false,
    }
}

/// `path`, `path-2`, `path-3` and so on.
fn candidates(path: &Path) -> impl Iterator<Item = PathBuf> {
    let numbered = |n: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    };
    std::iter::once(path.to_path_buf()).chain((2..100_000).map(numbered))
}

/// `path`, or `path-2`, `path-3` and so on if it exists and is not empty.
pub fn free_name(path: &Path) -> PathBuf {
    let is_free = |path: &Path| match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !path.exists(),
    };
    candidates(path)
        .find(|path| is_free(path))
        .unwrap_or_else(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn a_folder_in_use_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let first = RunFolder::create(&path, &Config::default()).unwrap();
        let message = RunFolder::open(&path).unwrap_err().to_string();
        let pid = format!("process {}", std::process::id());
        assert!(
            message.contains(&pid) && message.contains("run"),
            "{message}"
        );
        drop(first);
        RunFolder::open(&path).unwrap();
    }

    /// If several processes want the same name at once, each gets a folder of its own.
    #[test]
    fn two_runs_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/run");
        let start = Barrier::new(8);
        let mut got: Vec<PathBuf> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                let created = RunFolder::create(&path, &Config::default()).unwrap();
                created.path().to_path_buf()
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        got.sort();
        got.dedup();
        assert_eq!(got.len(), 8, "{got:?}");
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        drop(RunFolder::create(&path, &Config::default()).unwrap());
        let left = path.join("best.safetensors.partial");
        std::fs::write(&left, "half").unwrap();
        RunFolder::open(&path).unwrap();
        assert!(!left.exists());
        let missing = RunFolder::open(&folder.path().join("none")).unwrap_err();
        assert!(
            missing.to_string().contains("no such run folder"),
            "{missing}"
        );
    }
}
