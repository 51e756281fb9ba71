//! Checkpoints: everything that is needed to resume a run as if it had never stopped.
//!
//! `checkpoints/STEP/` holds the weights, the optimizer's moments, the averaged weights if there are
//! any, and the progress. Batches and samples are functions of seed and step, so the step is all the
//! state that data loading and sampling have.

mod folder;

use crate::config::Config;
use crate::data::Classes;
use crate::model::MaskRcnn;
use crate::train::error::CheckpointError;
use crate::train::optim::loss_scale::ScaleState;
use crate::train::optim::optimizer::Optimizer;
use crate::weights::{Checkpoint, StateDict, TrainingRecord, from_bytes, to_bytes};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where a run is, beside its weights and its optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Version of this crate.
    pub version: String,
    /// Steps done.
    pub step: usize,
    /// Steps that the optimizer made.
    pub optimizer_steps: i32,
    /// Seed of the order of the images and of the samples.
    pub seed: u64,
    /// Passes over the training set that are done.
    pub epoch: usize,
    /// Images of the present pass that are done.
    pub index: usize,
    /// The best mask AP so far, if there was an evaluation.
    pub best: Option<f64>,
    /// Evaluations since then.
    #[serde(default)]
    pub stale: usize,
    /// The loss scale, if it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<ScaleState>,
    /// Length of `metrics.jsonl` in bytes; what follows is of steps that will be done again.
    pub metrics_bytes: u64,
}

impl Progress {
    /// Images that were trained on, of a dataset of `images`.
    pub(crate) fn seen(&self, images: usize) -> usize {
        self.epoch * images + self.index
    }
}

/// A run that can be resumed.
#[derive(Debug)]
pub struct Saved {
    /// Where it was read from.
    pub folder: PathBuf,
    /// Where the run is.
    pub progress: Progress,
    /// The weights.
    pub weights: StateDict,
    /// The optimizer's moments by parameter.
    pub optimizer: StateDict,
    /// The averaged weights, where `train.ema` is on.
    pub ema: Option<StateDict>,
}

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const EMA: &str = "ema.safetensors";
const PROGRESS: &str = "progress.json";

/// What is saved.
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
    /// Writes `parent/STEP` whole or not at all; keeps the newest `keep`.
    pub(crate) fn write(&self, parent: &Path, keep: usize) -> Result<PathBuf, CheckpointError> {
        let io = |source| CheckpointError::Io {
            path: parent.into(),
            source,
        };
        std::fs::create_dir_all(parent).map_err(io)?;
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
        folder::write(parent, self.progress.step, &files, keep, &mut |_| Ok(())).map_err(io)
    }
}

/// Reads the newest whole checkpoint in `parent`; with it, one line for each newer one that is broken.
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
    let progress = progress.map_err(|error| CheckpointError::Misfit {
        path: folder.join(PROGRESS),
        reason: error.to_string(),
    })?;
    let averaged = folder.join(EMA).exists();
    Ok(Saved {
        progress,
        weights: tensors(WEIGHTS)?,
        optimizer: tensors(OPTIMIZER)?,
        ema: averaged.then(|| tensors(EMA)).transpose()?,
        folder: folder.into(),
    })
}
