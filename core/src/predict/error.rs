//! Errors of prediction.

use super::tiles::grid::SMALLEST;
use super::tta::SCALES;
use crate::config::ConfigError;
use crate::weights::WeightsError;
use burn::tensor::ExecutionError;
use mrcnn_backends::{BackendError, PrecisionError};
use thiserror::Error;

/// Errors of [`Predictor`](super::Predictor) and its builder.
#[derive(Debug, Error)]
pub enum PredictError {
    /// The device failed, for example out of memory or lost.
    #[error("the device failed: {0}; try a smaller image.min_size or another --backend")]
    Device(#[from] ExecutionError),
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backend has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The device does not support the requested precision.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// The builder has no weights and no model.
    #[error(
        "the builder has no weights; call .weights(path), .weights(bytes) or .model(model, classes)"
    )]
    NoWeights,
    /// An override would change a setting of a model in memory.
    #[error(
        "{key}: a model in memory keeps its settings, so an override cannot change this one; remove the override, or \
         build the model with the other value (only model.roi.score_threshold can be changed)"
    )]
    ModelSetting {
        /// The key of the setting.
        key: String,
    },
    /// The model has another number of classes than are given with it.
    #[error(
        "the model predicts {expected} classes (model.num_classes without the background), but {given} were given; \
         call .model(model, classes) with the classes that the model is trained on"
    )]
    Classes {
        /// Number of classes that are given.
        given: usize,
        /// Number of classes of the model, without the background.
        expected: usize,
    },
    /// The score threshold is NaN.
    #[error("the score threshold is NaN; use a number from 0 (every detection) to 1")]
    Score,
    /// The tiles are too small or overlap by too much.
    #[error(
        "tiles of {size} pixels that overlap by {overlap}; tiles have at least {SMALLEST} pixels and overlap by 0 to 0.5"
    )]
    Tiles {
        /// Side in pixels.
        size: u32,
        /// Overlap as a fraction of the side.
        overlap: f64,
    },
    /// Test-time augmentation has no scale, or one out of range.
    #[error(
        "test-time augmentation with the scales {scales:?}; give at least one, each from {} to {}",
        SCALES.start(), SCALES.end()
    )]
    Views {
        /// The scales.
        scales: Vec<f32>,
    },
    /// An image without pixels.
    #[error("image {index} of the batch has {width}x{height} pixels; use an image of at least 1x1")]
    EmptyImage {
        /// Index in the batch.
        index: usize,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}
