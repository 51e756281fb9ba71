//! Data sets: COCO files, sources of a program's own, checking, and the embedded one.

mod check;
mod classes;
mod coco;
mod dataset;
#[cfg(feature = "train")]
pub mod import;
mod reader;
mod segmentation;
#[cfg(feature = "train")]
pub mod shapes;
mod source;
mod splits;

pub use check::{Problem, Report, Severity, SplitSummary, check};
#[cfg(feature = "train")]
pub(crate) use check::{check_pictures, size_mismatch};
pub use classes::Classes;
pub use coco::{DetectionRecord, RleRecord, detections_json};
pub use dataset::{DataError, Dataset, Instance, OnProblem, Sample};
pub use source::{DatasetSource, Origin, SourceError};
pub use splits::{Split, find_split, find_splits};
