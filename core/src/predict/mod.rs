//! Prediction: from images to detections in the pixels of the original images.

mod builder;
mod error;
mod polygon;
mod prediction;
mod predictor;
mod stages;
mod tiles;

pub use crate::weights::WeightsSource;
pub use builder::PredictorBuilder;
pub use error::PredictError;
pub use polygon::{Corner, Polygon};
pub use prediction::{Object, Prediction};
pub use predictor::Predictor;
#[cfg(feature = "train")]
pub(crate) use stages::input;
pub use stages::{ImageSizes, MASK_THRESHOLD};
pub use tiles::TileSettings;
