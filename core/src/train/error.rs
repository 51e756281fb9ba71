//! Errors of training.

use crate::config::ConfigError;
use crate::data::{DataError, LeftOut};
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

/// Errors of preparing a batch.
#[derive(Debug, Error)]
pub enum LoadError {
    /// An image cannot be read.
    #[error("{0}; leave it out with --set data.on_problem=skip")]
    Decode(#[from] DecodeError),
    /// An image does not match its annotation entry.
    #[error("{path}: {reason}; leave it out with --set data.on_problem=skip")]
    Size {
        /// The path of the image.
        path: PathBuf,
        /// The difference.
        reason: String,
    },
    /// Every image of a batch was left out.
    #[error("no image of a batch could be read{left_out}; run `mrcnn-cli dataset check`")]
    NothingLeft {
        /// The number and the first of these images, if they are known.
        left_out: String,
    },
    /// A decoding thread panicked, and printed the reason.
    #[error("a loader thread panicked; its message on standard error has the location of the bug")]
    Panicked,
    /// The decoding threads cannot be started.
    #[error("cannot start the loader threads: {0}; lower data.workers")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl LoadError {
    /// The error of a batch of which every image was left out.
    pub(crate) fn nothing_left(left_out: &[LeftOut]) -> Self {
        let left_out = match left_out.first() {
            None => String::new(),
            Some(first) => format!(
                " ({} left out, the first is image {}: {})",
                left_out.len(),
                first.image_id,
                first.reason
            ),
        };
        Self::NothingLeft { left_out }
    }
}

/// Advice for an out-of-memory error: settings that reduce the memory of a run.
pub(crate) const LOWER: &str = "lower train.batch_size (the learning rate follows) or raise \
                         train.accumulate (it does not), lower image.max_size, image.min_size, \
                         augment.min_sizes, model.roi.batch_per_image, model.rpn.batch_per_image or \
                         model.rpn.post_nms_train, or freeze more (--freeze-at)";

/// Errors of writing and reading checkpoints.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The folder cannot be written or read.
    #[error("{path}: {source}")]
    Io {
        /// The path of the folder.
        path: PathBuf,
        /// The operating system's error, or a description of the damage.
        source: std::io::Error,
    },
    /// There is too little free disk space.
    #[error(
        "{path}: a checkpoint needs {needed:.1} MB and {free:.1} MB are free; the checkpoints before it are \
         whole: make room and continue with `mrcnn-cli train --resume`, or lower train.keep_checkpoints"
    )]
    Full {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// Size of a checkpoint in megabytes.
        needed: f64,
        /// Free megabytes.
        free: f64,
    },
    /// No checkpoint is intact.
    #[error("{path}: no whole checkpoint{details}; start again with `mrcnn-cli train`")]
    None {
        /// The folder of the checkpoints.
        path: PathBuf,
        /// The damaged checkpoints and the reason for each.
        details: String,
    },
    /// A checkpoint is intact but does not match the run.
    #[error("{path}: {reason}; restore args.toml if it was changed")]
    Misfit {
        /// The path of the checkpoint.
        path: PathBuf,
        /// The mismatch.
        reason: String,
    },
    /// The weights in the checkpoint cannot be read.
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

/// Errors of a training run.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The configuration of a resumed run cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The dataset cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The dataset has classes that the weights do not have.
    #[error("{path}: not all of its categories {data:?} are among those of the weights, {model:?}")]
    UnknownClasses {
        /// Category names in the dataset.
        data: Vec<String>,
        /// Category names in the weights.
        model: Vec<String>,
        /// The path of the dataset's annotations.
        path: PathBuf,
    },
    /// The configured number of classes differs from the dataset's.
    #[error(
        "{path}: {found} classes with the background, model.num_classes is {configured}; set it to \
         0 to take them from the data"
    )]
    ClassCount {
        /// `model.num_classes`.
        configured: usize,
        /// Number of classes in the data.
        found: usize,
        /// The path of the training split's annotations.
        path: PathBuf,
    },
    /// The replicas' threads cannot be started.
    #[error("cannot start the threads of train.replicas: {0}; try fewer")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A setting that does not work with several ranks, or on the device.
    #[error("{key}: {reason}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// The reason and the fix.
        reason: &'static str,
    },
    /// The backend has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The ranks cannot communicate or do not agree.
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
        /// The device's error.
        reason: String,
        /// The memory estimate.
        plan: String,
    },
    /// A loss or gradient is not finite.
    #[error(
        "step {step}: the loss or its gradient is not finite (loss {loss}, images {image_ids:?}){dump}; \
         lower train.learning_rate, lengthen train.warmup_steps or set train.clip_norm=5"
    )]
    NotFinite {
        /// The number of the step.
        step: usize,
        /// The sum of the losses.
        loss: f32,
        /// The ids of the batch's images.
        image_ids: Vec<u64>,
        /// The path of the saved batch.
        dump: String,
    },
    /// Too many consecutive steps overflowed, although each halved the loss scale.
    #[error(
        "step {step}: {skipped} consecutive steps overflowed in {precision}, the last one with a loss scale of \
         {scale}: train with --precision bf16 or f32, or lower train.learning_rate{dump}"
    )]
    Overflow {
        /// The number of the step.
        step: usize,
        /// Number of consecutive skipped steps.
        skipped: usize,
        /// Precision of the activations.
        precision: Precision,
        /// The loss scale of the last step.
        scale: f64,
        /// The path of the saved last batch.
        dump: String,
    },
    /// The device does not support the precision.
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
    /// The observer stopped an evaluation.
    #[error("the evaluation was stopped")]
    Interrupted,
    /// Another process writes to the run folder.
    #[error("{path}: {holder} is using this run folder: wait until it has ended, or stop it first")]
    InUse {
        /// The path of the run folder.
        path: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// The run folder cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The operating system's error.
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
    fn out_of_memory_errors_have_the_estimate_and_what_to_reduce() {
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
