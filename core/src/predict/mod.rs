//! Prediction: from images to detections in the pixels of the original images.

mod builder;
mod error;
mod export;
mod prediction;
mod predictor;
mod stages;
mod tiles;
mod tta;

pub use crate::detection::{Corner, Point, Polygon};
pub use crate::weights::WeightsSource;
pub use builder::PredictorBuilder;
pub use error::PredictError;
pub use export::{CSV_HEADER, CocoImage, EDIT_TOLERANCE, coco_dataset, csv_rows, yolo_data_yaml};
pub use prediction::{Object, Prediction};
pub use predictor::Predictor;
#[cfg(feature = "train")]
pub(crate) use stages::input;
pub use stages::{ImageSizes, MASK_THRESHOLD};
pub use tiles::TileSettings;
pub use tta::TtaSettings;
