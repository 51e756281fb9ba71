//! What the images and videos of a run have in common.

use super::PredictArgs;
use super::relabel::Relabelling;
use super::save::Saver;
use anyhow::Result;
use mrcnn_core::data::Classes;
use mrcnn_core::image::RgbImage;
use mrcnn_core::{Prediction, Predictor};

/// Images that wait between two threads.
pub const QUEUE: usize = 2;

pub struct Run<'a> {
    pub args: &'a PredictArgs,
    pub predictor: &'a Predictor,
    pub labels: Option<Relabelling>,
    pub saver: Saver,
}

impl Run<'_> {
    /// Class names and category ids of the results.
    pub fn classes(&self) -> &Classes {
        let own = self.predictor.classes();
        self.labels.as_ref().map_or(own, |labels| labels.classes())
    }

    /// The selected objects of an image, with the classes of the results.
    pub fn found(&self, image: &RgbImage) -> Result<Prediction> {
        let mut found = self.predictor.predict(image)?;
        // `--set model.roi.score_threshold` may be lower.
        found
            .detections
            .retain(|found| found.score >= self.args.score);
        if let Some(labels) = &self.labels {
            found = labels.applied(found);
        }
        self.args.filter.apply(&mut found);
        Ok(found)
    }
}
