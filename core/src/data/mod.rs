//! Datasets: COCO files, custom sources, checks, and the rendered one.

mod check;
mod classes;
mod coco;
pub(crate) mod consistency;
mod dataset;
mod duplicates;
pub(crate) mod entries;
mod error;
#[cfg(all(feature = "convert", feature = "train"))]
pub(crate) mod fuzzing;
mod holdout;
mod images;
#[cfg(feature = "train")]
pub mod import;
pub(crate) mod json;
pub(crate) mod locate;
mod open;
mod pair;
mod problem;
pub(crate) mod raw;
mod reader;
mod remarks;
pub(crate) mod segmentation;
#[cfg(feature = "train")]
pub mod shapes;
mod source;
pub(crate) mod splits;
mod stats;

pub use crate::config::OnProblem;
pub use check::{Report, SplitSummary, check};
pub use classes::Classes;
pub use coco::{DetectionRecord, RleRecord, detections_json};
pub use dataset::{Dataset, DatasetSource, Instance, LeftOut, Origin, Sample, SourceError};
#[cfg(feature = "train")]
pub(crate) use duplicates::shared_images;
pub use error::DataError;
#[cfg(feature = "train")]
pub(crate) use images::{check_images, size_mismatch};
#[cfg(feature = "train")]
pub(crate) use pair::check_objects;
pub use pair::{TrainingData, open_split, open_training_data};
pub use problem::{Problem, Severity, printable, summarized};
pub use splits::{Split, find_split, find_splits, find_splits_in};
pub use stats::{Histogram, Statistics};
