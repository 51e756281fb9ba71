//! State shared by the prediction of images and of videos.

use super::PredictArgs;
use super::relabel::Relabeling;
use super::save::Saver;
use anyhow::Result;
use mrcnn_core::data::Classes;
use mrcnn_core::image::RgbImage;
use mrcnn_core::{Prediction, Predictor};

/// Maximum number of images that wait between two threads.
pub const QUEUE: usize = 2;

pub struct Run<'a> {
    pub args: &'a PredictArgs,
    pub predictor: &'a Predictor,
    pub labels: Option<Relabeling>,
    pub saver: Saver,
}

impl Run<'_> {
    /// Class names and category ids of the results.
    pub fn classes(&self) -> &Classes {
        let own = self.predictor.classes();
        self.labels.as_ref().map_or(own, |labels| labels.classes())
    }

    /// The selected objects of an image, with the classes of the results.
    /// `on_tile` is called with the number of finished tiles and of all, if there are several.
    pub fn found(
        &self,
        image: &RgbImage,
        on_tile: &mut dyn FnMut(usize, usize),
    ) -> Result<Prediction> {
        let config = &self.predictor.config().image;
        let mut found = match self.args.tiles.of(image.dimensions(), config) {
            Some(tiles) => self.predictor.predict_tiled(image, &tiles, on_tile)?,
            None => self.predictor.predict(image)?,
        };
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
