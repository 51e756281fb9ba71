//! The folder of a run: arguments, metrics, weights, images, curves.

use crate::config::Config;
use crate::train::error::TrainError;
use std::path::{Path, PathBuf};

/// A run's folder, never one that already holds a run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Creates `path`; where it exists and is not empty, `path-2`, `path-3` and so on.
    pub fn create(path: &Path, config: &Config) -> Result<Self, TrainError> {
        let path = free_name(path);
        std::fs::create_dir_all(&path).map_err(|source| io_error(&path, source))?;
        let folder = Self { path };
        folder.write_args(config)?;
        Ok(folder)
    }

    /// Writes the configuration of the resumed run, completely or not at all.
    pub fn write_args(&self, config: &Config) -> Result<(), TrainError> {
        let args = Self::args(&self.path);
        let partial = args.with_extension("toml.partial");
        let text = toml::to_string(config).map_err(std::io::Error::other);
        text.and_then(|text| std::fs::write(&partial, text))
            .and_then(|()| std::fs::rename(&partial, &args))
            .map_err(|source| io_error(&args, source))
    }

    /// The folder of a run that is there, or that another rank keeps: nothing is written.
    pub fn there(path: &Path) -> Self {
        Self { path: path.into() }
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

    /// The batch of a step whose loss was not finite.
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

/// `path`, or `path-2`, `path-3` and so on where it exists and is not empty.
pub fn free_name(path: &Path) -> PathBuf {
    let is_free = |path: &Path| match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !path.exists(),
    };
    let numbered = |n: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    };
    if is_free(path) {
        return path.to_path_buf();
    }
    (2..)
        .map(numbered)
        .find(|path| is_free(path))
        .unwrap_or_else(|| path.to_path_buf())
}
