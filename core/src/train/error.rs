//! Why training stopped.

use crate::config::ConfigError;
use crate::data::DataError;
use crate::eval::EvalError;
use crate::image::decode::DecodeError;
use crate::predict::PredictError;
use crate::report::LogError;
use crate::weights::WeightsError;
use burn::tensor::ExecutionError;
use mrcnn_backends::BackendError;
use mrcnn_backends::comm::CommError;
use mrcnn_backends::{Precision, PrecisionError};
use std::path::PathBuf;
use thiserror::Error;

/// Why a batch could not be prepared.
#[derive(Debug, Error)]
pub enum LoadError {
    /// An image cannot be read.
    #[error("{0}; leave it out with --set data.on_problem=skip")]
    Decode(#[from] DecodeError),
    /// An image is not what its entry says.
    #[error("{path}: {reason}; leave it out with --set data.on_problem=skip")]
    Size {
        /// The image.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Every image of a batch was left out.
    #[error("no image of a batch could be read; run `mrcnn-cli dataset check`")]
    NothingLeft,
    /// A thread that decodes has panicked, and has printed why.
    #[error(
        "a loader thread panicked; its message is on standard error, and names the place of the mistake"
    )]
    Panicked,
    /// The threads that decode cannot be started.
    #[error("cannot start the loader threads: {0}; lower data.workers")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Settings that lower the memory of a run.
pub(crate) const LOWER: &str = "lower train.batch_size (the learning rate follows) or raise \
                         train.accumulate (it does not), lower image.max_size, image.min_size, \
                         augment.min_sizes, model.roi.batch_per_image or \
                         model.rpn.post_nms_train, or freeze more (--freeze-at)";

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The folder cannot be written or read.
    #[error("{path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The error of the system, or what is damaged.
        source: std::io::Error,
    },
    /// The disk has too little room.
    #[error(
        "{path}: a checkpoint needs {needed:.1} MB and {free:.1} MB are free; the checkpoints before it are \
         whole: make room and continue with `mrcnn-cli train --resume`, or lower train.keep_checkpoints"
    )]
    Full {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// Megabytes of a checkpoint.
        needed: f64,
        /// Megabytes that are free.
        free: f64,
    },
    /// No checkpoint is whole.
    #[error("{path}: no whole checkpoint{details}; start again with `mrcnn-cli train`")]
    None {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// The broken ones and what is wrong with them.
        details: String,
    },
    /// A checkpoint is whole but does not fit the run.
    #[error("{path}: {reason}; was args.toml changed?")]
    Misfit {
        /// The checkpoint.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Its weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl CheckpointError {
    pub(crate) fn full(path: &std::path::Path, bytes: u64) -> Self {
        let free = crate::disk::free_bytes(path).unwrap_or_default();
        let [needed, free] = [bytes, free].map(|bytes| bytes as f64 / 1e6);
        Self::Full {
            path: path.into(),
            needed,
            free,
        }
    }
}

/// Why training stopped.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The configuration of a resumed run cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The dataset cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The dataset has classes that the weights do not know.
    #[error("{path}: its categories {data:?} are not all among those of the weights, {model:?}")]
    UnknownClasses {
        /// Names in the dataset.
        data: Vec<String>,
        /// Names that the weights know.
        model: Vec<String>,
        /// The dataset's annotations.
        path: PathBuf,
    },
    /// The configuration wants another number of classes.
    #[error(
        "{path}: {found} classes with the background, model.num_classes is {configured}; set it to \
         0 to take them from the data"
    )]
    ClassCount {
        /// `model.num_classes`.
        configured: usize,
        /// Classes in the data.
        found: usize,
        /// The training split's annotations.
        path: PathBuf,
    },
    /// The replicas' threads cannot be started.
    #[error("cannot start the threads of train.replicas: {0}; try fewer")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A setting that several ranks cannot have.
    #[error("{key}: {reason}")]
    Ranks {
        /// The setting.
        key: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// There is no device for the backend.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The ranks cannot work together.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// A batch could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The device failed.
    #[error("the device failed: {0}; try a smaller train.batch_size or image.min_size")]
    Device(#[from] ExecutionError),
    /// The device has too little memory.
    #[error("the device ran out of memory: {reason}\n{plan}\n{LOWER}")]
    OutOfMemory {
        /// The error of the device.
        reason: String,
        /// What was planned.
        plan: String,
    },
    /// A loss or gradient is not finite.
    #[error(
        "step {step}: the loss or its gradient is not finite (loss {loss}, images {image_ids:?}){dump}; \
         lower train.learning_rate, lengthen train.warmup_steps or set train.clip_norm=5"
    )]
    NotFinite {
        /// The step.
        step: usize,
        /// The sum of the losses.
        loss: f32,
        /// The images of the batch.
        image_ids: Vec<u64>,
        /// Where the batch was written.
        dump: String,
    },
    /// Too many steps in a row overflowed, each with half the loss scale of the one before.
    #[error(
        "step {step}: {skipped} steps in a row overflowed in {precision}, with a loss scale of \
         {scale} at last: train with --precision bf16 or f32, or lower train.learning_rate{dump}"
    )]
    Overflow {
        /// The step.
        step: usize,
        /// Steps without a good one between.
        skipped: usize,
        /// What activations are in.
        precision: Precision,
        /// The scale of the last one.
        scale: f64,
        /// Where its batch was written.
        dump: String,
    },
    /// The device cannot compute so.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// Another rank has no batch.
    #[error("rank {rank} has no batch: {reason}")]
    OtherRank {
        /// The first such rank.
        rank: usize,
        /// Its error.
        reason: String,
    },
    /// The observer ended an evaluation.
    #[error("the evaluation was ended")]
    Interrupted,
    /// Another process writes to the run folder.
    #[error("{path}: {holder} is using this run folder: wait until it has ended, or stop it first")]
    InUse {
        /// The run folder.
        path: PathBuf,
        /// Which process.
        holder: String,
    },
    /// The run folder cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The metrics log of a resumed run is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Weights cannot be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Evaluation failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Prediction failed.
    #[error(transparent)]
    Predict(#[from] PredictError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_says_what_was_planned_and_what_to_lower() {
        let message = TrainError::OutOfMemory {
            reason: "Out of memory".into(),
            plan: "memory plan: 3 GB".into(),
        };
        let message = message.to_string();
        assert!(
            message.contains("3 GB") && message.contains("train.batch_size"),
            "{message}"
        );
    }
}
