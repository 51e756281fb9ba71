//! Prediction: from images to detections in the pixels of the original images.

mod builder;
mod error;
mod prediction;
mod predictor;
mod stages;

pub use crate::detection::{Corner, Point, Polygon};
pub use builder::{PredictorBuilder, WeightsSource};
pub use error::PredictError;
pub use prediction::{Object, Prediction};
pub use predictor::Predictor;
#[cfg(feature = "train")]
pub(crate) use stages::input;
pub use stages::{ImageSizes, MASK_THRESHOLD};
