//! Checkpoints: everything needed to resume a run without a difference.
//!
//! `checkpoints/STEP/` holds the weights, the optimizer's moments, the averaged weights if there are
//! any, and the progress. Batches and samples are functions of the seed and the step, so data loading and sampling
//! need no other state.

mod folder;

use crate::config::Config;
use crate::data::Classes;
use crate::disk::{create_folder, free_bytes, is_full, write_durably};
use crate::model::MaskRcnn;
use crate::train::error::CheckpointError;
use crate::train::optim::loss_scale::ScaleState;
use crate::train::optim::optimizer::Optimizer;
use crate::weights::{Checkpoint, StateDict, TrainingRecord, from_bytes, to_bytes};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Progress of a run, without its weights and optimizer state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Version of this crate.
    pub version: String,
    /// Steps done.
    pub step: usize,
    /// Steps that updated the weights.
    pub optimizer_steps: i32,
    /// Seed of the order of the images and of the sampling.
    pub seed: u64,
    /// Completed passes over the training set.
    pub epoch: usize,
    /// Images done in the current pass.
    pub index: usize,
    /// The best mask AP so far, if there was an evaluation.
    pub best: Option<f64>,
    /// Evaluations since the best mask AP.
    #[serde(default)]
    pub stale: usize,
    /// The loss scale, if one is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<ScaleState>,
    /// Length of `metrics.jsonl` in bytes; later lines belong to steps that will be repeated.
    pub metrics_bytes: u64,
    /// Whether the evaluation of this step is still to be done: checkpoints are written before it.
    #[serde(default)]
    pub evaluation_due: bool,
}

/// The part of [`Progress`] that the evaluation after a checkpoint changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evaluated {
    pub(crate) best: Option<f64>,
    pub(crate) stale: usize,
    pub(crate) metrics_bytes: u64,
}

impl Evaluated {
    /// Records in a checkpoint that its evaluation is done.
    pub(crate) fn write(&self, checkpoint: &Path) -> Result<(), CheckpointError> {
        let path = checkpoint.join(EVALUATED);
        let written = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .and_then(|text| write_durably(&path, |out| out.write_all(&text)));
        written.map_err(|source| CheckpointError::Io { path, source })
    }

    /// The evaluation record of a checkpoint; `None` if it is missing or damaged, so that the evaluation is repeated.
    fn read(checkpoint: &Path) -> Option<Self> {
        let text = folder::read(checkpoint, EVALUATED).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl Progress {
    /// Number of images trained on, of a dataset of `images`.
    pub(crate) fn images_done(&self, images: usize) -> usize {
        self.epoch * images + self.index
    }
}

/// The state of a run that can be resumed.
#[derive(Debug)]
pub struct Saved {
    /// The path that it was read from.
    pub folder: PathBuf,
    /// The progress of the run.
    pub progress: Progress,
    /// The weights.
    pub weights: StateDict,
    /// The optimizer's moments by parameter.
    pub optimizer: StateDict,
    /// The averaged weights, if `train.ema` is on.
    pub ema: Option<StateDict>,
}

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const EMA: &str = "ema.safetensors";
const PROGRESS: &str = "progress.json";
const EVALUATED: &str = "evaluated.json";

/// The contents of a checkpoint to be saved.
pub(crate) struct Snapshot<'a> {
    pub(crate) progress: &'a Progress,
    pub(crate) model: &'a MaskRcnn,
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) ema: Option<&'a MaskRcnn>,
    pub(crate) config: &'a Config,
    pub(crate) classes: &'a Classes,
    pub(crate) training: TrainingRecord,
}

impl Snapshot<'_> {
    /// Writes `parent/STEP` atomically and keeps the newest `keep` checkpoints. `bytes` is the approximate size, which
    /// must be free.
    pub(crate) fn write(
        &self,
        parent: &Path,
        keep: usize,
        bytes: u64,
    ) -> Result<PathBuf, CheckpointError> {
        let io = |source| CheckpointError::Io {
            path: parent.into(),
            source,
        };
        check_room(parent, bytes)?;
        let weights = |model: &MaskRcnn| {
            let checkpoint = Checkpoint {
                config: self.config.clone(),
                classes: self.classes.clone(),
                training: Some(self.training.clone()),
                tensors: crate::weights::state_dict(model),
            };
            checkpoint.to_bytes().map_err(std::io::Error::other)
        };
        let model = || weights(self.model);
        let optimizer = || to_bytes(&self.optimizer.state_dict(self.model));
        let progress = || Ok(serde_json::to_vec_pretty(self.progress)?);
        let mut files: Vec<folder::Contents> = vec![
            (WEIGHTS, &model),
            (OPTIMIZER, &optimizer),
            (PROGRESS, &progress),
        ];
        let ema = || self.ema.map_or(Ok(Vec::new()), weights);
        if self.ema.is_some() {
            files.push((EMA, &ema));
        }
        let written = folder::write(parent, self.progress.step, &files, keep, &mut |_| Ok(()));
        written.map_err(|source| {
            // The partial checkpoint may have filled the disk. The first error is the one to report.
            let _ = folder::remove_leftovers(parent);
            match is_full(&source) {
                true => CheckpointError::full(parent, bytes),
                false => io(source),
            }
        })
    }
}

/// Creates the folder of the checkpoints, and returns an error if there is no space for one of `bytes`.
pub(crate) fn check_room(parent: &Path, bytes: u64) -> Result<(), CheckpointError> {
    create_folder(parent).map_err(|source| CheckpointError::Io {
        path: parent.into(),
        source,
    })?;
    match free_bytes(parent).is_some_and(|free| free < bytes) {
        true => Err(CheckpointError::full(parent, bytes)),
        false => Ok(()),
    }
}

/// Removes leftovers of killed writes from the folder of the checkpoints.
pub(crate) fn remove_leftovers(parent: &Path) -> Result<(), CheckpointError> {
    folder::remove_leftovers(parent).map_err(|source| CheckpointError::Io {
        path: parent.into(),
        source,
    })
}

/// The configuration stored with the newest readable checkpoint, used if `args.toml` is lost.
pub(crate) fn newest_config(parent: &Path) -> Option<Config> {
    let folders = folder::list(parent).ok()?;
    folders.into_iter().find_map(|(_, folder)| {
        let path = folder.join(WEIGHTS);
        Some(crate::weights::load(&path).ok()?.config)
    })
}

/// Reads the newest intact checkpoint in `parent`; also returns one line for each newer one that is damaged.
pub fn newest(parent: &Path) -> Result<(Saved, Vec<String>), CheckpointError> {
    let io = |path: &Path, source| CheckpointError::Io {
        path: path.into(),
        source,
    };
    let mut broken = Vec::new();
    for (_, folder) in folder::list(parent).map_err(|source| io(parent, source))? {
        match folder::check(&folder) {
            Ok(()) => return Ok((read(&folder)?, broken)),
            Err(error) => broken.push(format!("{}: {error}", folder.display())),
        }
    }
    let details = match broken.is_empty() {
        true => String::new(),
        false => format!(" ({})", broken.join("; ")),
    };
    Err(CheckpointError::None {
        path: parent.into(),
        details,
    })
}

fn read(folder: &Path) -> Result<Saved, CheckpointError> {
    let bytes = |name: &str| {
        folder::read(folder, name).map_err(|source| CheckpointError::Io {
            path: folder.join(name),
            source,
        })
    };
    let tensors = |name: &str| -> Result<StateDict, CheckpointError> {
        Ok(from_bytes(&folder.join(name), &bytes(name)?)?)
    };
    let progress = serde_json::from_slice(&bytes(PROGRESS)?);
    let mut progress: Progress = progress.map_err(|error| CheckpointError::Misfit {
        path: folder.join(PROGRESS),
        reason: error.to_string(),
    })?;
    if let Some(evaluated) = Evaluated::read(folder) {
        progress.best = evaluated.best;
        progress.stale = evaluated.stale;
        progress.metrics_bytes = evaluated.metrics_bytes;
        progress.evaluation_due = false;
    }
    let averaged = folder.join(EMA).exists();
    Ok(Saved {
        progress,
        weights: tensors(WEIGHTS)?,
        optimizer: tensors(OPTIMIZER)?,
        ema: averaged.then(|| tensors(EMA)).transpose()?,
        folder: folder.into(),
    })
}
