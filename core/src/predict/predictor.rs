//! The predictor: weights, configuration, classes and device.

use super::tta::TtaSettings;
use super::{PredictError, Prediction};
use crate::config::Config;
use crate::data::Classes;
use crate::detection::Detection;
use crate::image::transform::{Planes, padded_size, prepare};
use crate::model::MaskRcnn;
use crate::weights::names::has_heads;
use crate::weights::{self, Checkpoint, WeightsError};
use ::image::RgbImage;
use burn::module::Module;
use burn::tensor::Device;
use mrcnn_backends::Resolved;
use mrcnn_backends::failure::caught;
use mrcnn_backends::watchdog::operation;
use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;

/// Score threshold of the views of test-time augmentation, unless the final one is lower.
const VIEW_SCORE: f32 = 0.05;

/// A trained model with its configuration, classes and device.
#[derive(Debug)]
pub struct Predictor {
    pub(super) model: MaskRcnn,
    /// The same model with its weights prepared for the device, see [`MaskRcnn::prepared`]; a second copy on GPUs.
    pub(super) prepared: MaskRcnn,
    pub(super) config: Config,
    pub(super) classes: Arc<Classes>,
    pub(super) device: Device,
    tta: Option<TtaSettings>,
}

impl Predictor {
    pub(super) fn from_checkpoint(
        checkpoint: Checkpoint,
        path: &Path,
        config: Option<Config>,
        overrides: &[String],
        (device, precision): (&Device, Resolved),
    ) -> Result<Self, PredictError> {
        if !has_heads(&checkpoint.tensors) {
            return Err(PredictError::Weights(WeightsError::Unsupported {
                path: path.into(),
                reason: "it has a backbone only; train it with `mrcnn-cli train --weights`".into(),
            }));
        }
        let mut config = config.unwrap_or(checkpoint.config).with(overrides)?;
        if config.model.num_classes == 0 {
            config.model.num_classes = checkpoint.classes.len() + 1;
        }
        config.check()?;
        let model = MaskRcnn::uninitialized(&config.model, device);
        let model = weights::load_state_dict(model, checkpoint.tensors, path)?;
        let model = model.with_precision(precision);
        Ok(Self::new(&model, config, checkpoint.classes, device))
    }

    /// A predictor from a model in memory, which may be in training.
    pub(crate) fn new(model: &MaskRcnn, config: Config, classes: Classes, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let model = model.valid();
        Self {
            prepared: model.prepared().model,
            model,
            config,
            classes: Arc::new(classes),
            device,
            tta: None,
        }
    }

    /// The same predictor with test-time augmentation: every image is detected in several views, and their detections
    /// are merged. Images of a batch are predicted one at a time.
    ///
    /// # Errors
    ///
    /// If there is no view, or a scale is not from 0.1 to 10.
    pub fn with_tta(mut self, settings: TtaSettings) -> Result<Self, PredictError> {
        if !settings.is_valid() {
            let scales = settings.scales;
            return Err(PredictError::Views { scales });
        }
        // Boxes of a view with a score below the final threshold contribute to the mean score too.
        let threshold = self.config.model.roi.score_threshold.min(VIEW_SCORE);
        self.model = self.model.with_score_threshold(threshold);
        self.prepared = self.prepared.with_score_threshold(threshold);
        self.tta = Some(settings);
        Ok(self)
    }

    /// Class names and category ids.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The configuration in use.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Height and width of the input tensor of an image, including padding. In one batch, images with the same input
    /// size give the same results as one at a time, up to rounding.
    pub fn input_size(&self, width: u32, height: u32) -> (usize, usize) {
        let image = &self.config.image;
        let size = image.resized(height, width);
        padded_size(
            [size].into_iter(),
            image.size_divisor,
            image.smallest_batch(),
        )
    }

    /// Predicts one image. Blocks; in a browser use [`Self::predict_async`].
    pub fn predict(&self, image: &RgbImage) -> Result<Prediction, PredictError> {
        caught(|| pollster::block_on(self.predict_async(image)))
    }

    /// As [`Self::predict`], without blocking.
    pub async fn predict_async(&self, image: &RgbImage) -> Result<Prediction, PredictError> {
        let prediction = self.predict_batch_async(&[image]).await?.pop();
        Ok(prediction.unwrap_or_else(|| self.prediction(image, Vec::new())))
    }

    /// Predicts several images. They are padded to one size, which costs time and changes scores slightly near the
    /// border, so batches work best with images of the same [`Self::input_size`].
    pub fn predict_batch(
        &self,
        images: &[impl Borrow<RgbImage>],
    ) -> Result<Vec<Prediction>, PredictError> {
        caught(|| pollster::block_on(self.predict_batch_async(images)))
    }

    /// As [`Self::predict_batch`], without blocking.
    pub async fn predict_batch_async(
        &self,
        images: &[impl Borrow<RgbImage>],
    ) -> Result<Vec<Prediction>, PredictError> {
        let images: Vec<&RgbImage> = images.iter().map(Borrow::borrow).collect();
        if let Some(index) = images.iter().position(|image| image.is_empty()) {
            let (width, height) = images[index].dimensions();
            return Err(PredictError::EmptyImage {
                index,
                width,
                height,
            });
        }
        let _operation = operation(batch_name(&images));
        if let Some(settings) = &self.tta {
            let mut found = Vec::with_capacity(images.len());
            for image in images {
                let detections = self.detect_in_views(image, settings).await?;
                found.push(self.prediction(image, detections));
            }
            return Ok(found);
        }
        let planes: Vec<Planes> = images
            .iter()
            .map(|image| prepare(image, &self.config.image))
            .collect();
        if planes.is_empty() {
            return Ok(Vec::new());
        }
        let prepared = planes.iter().map(|p| (p.height as u32, p.width as u32));
        let originals = images.iter().map(|image| (image.height(), image.width()));
        let sizes: Vec<_> = prepared.zip(originals).collect();
        let (batch, resized) = self.input(&planes);
        let detections = self.prepared.detect(batch, &resized).await?;
        let detections = self.paste(detections, &sizes).await?;
        let per_image = images.iter().zip(detections);
        Ok(per_image
            .map(|(image, detections)| self.prediction(image, detections))
            .collect())
    }

    fn prediction(&self, image: &RgbImage, detections: Vec<Detection>) -> Prediction {
        Prediction::new(image.dimensions(), detections, self.classes.clone())
    }
}

/// "predicting an image of 640x480", for the watchdog.
fn batch_name(images: &[&RgbImage]) -> String {
    match images {
        [image] => format!(
            "predicting an image of {}x{}",
            image.width(),
            image.height()
        ),
        _ => format!("predicting {} images", images.len()),
    }
}
