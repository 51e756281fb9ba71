//! Contents of the report of a run.

use super::record::Record;
use crate::eval::{Analysis, Metrics};
use ::image::RgbImage;

/// Contents of the report of a run.
#[derive(Clone, Debug)]
pub struct RunReport<'a> {
    /// Title of the report.
    pub title: &'a str,
    /// Name and value of facts about the run: device, dataset, duration and so on.
    pub facts: Vec<(String, String)>,
    /// Metrics of the last evaluation.
    pub metrics: &'a Metrics,
    /// Analysis of the last evaluation.
    pub analysis: &'a Analysis,
    /// Every record of the log.
    pub records: &'a [Record],
    /// Captions and images with the most errors, ground truth and prediction side by side.
    pub worst: Vec<(String, RgbImage)>,
    /// Contents of `args.toml`.
    pub settings: &'a str,
}
