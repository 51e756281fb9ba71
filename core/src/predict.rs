//! Prediction: pictures in, detections in the pixels of the original pictures out.

mod builder;
mod stages;

pub use builder::{PredictorBuilder, WeightsSource};
#[cfg(feature = "train")]
pub(crate) use stages::input;
pub use stages::{ImageSizes, MASK_THRESHOLD};

use crate::config::{Config, ConfigError};
use crate::data::Classes;
use crate::detection::Detection;
use crate::image::transform::{Planes, padded_size, prepare};
use crate::model::MaskRcnn;
use crate::prediction::Prediction;
use crate::weights::{self, Checkpoint, WeightsError};
use ::image::RgbImage;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError};
use mrcnn_backends::failure::caught;
use mrcnn_backends::{BackendError, PrecisionError, Resolved};
use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// Why a prediction failed.
#[derive(Debug, Error)]
pub enum PredictError {
    /// The device failed: out of memory, lost.
    #[error("the device failed: {0}; try a smaller image.min_size or another --backend")]
    Device(#[from] ExecutionError),
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no device for the backend.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The device does not compute in the precision that was asked for.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// The builder was given no weights.
    #[error("no weights: give the builder .weights(path) or .weights(bytes)")]
    NoWeights,
    /// The builder was given a threshold that is no number.
    #[error("the score is NaN; give a number from 0 (everything) to 1")]
    Score,
    /// A picture without pixels.
    #[error("picture {index} of the batch has {width}x{height} pixels; at least 1x1 is needed")]
    EmptyPicture {
        /// Its place in the batch.
        index: usize,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// A trained model with all that prediction needs.
#[derive(Debug)]
pub struct Predictor {
    model: MaskRcnn,
    config: Config,
    classes: Arc<Classes>,
    device: Device,
}

impl Predictor {
    /// Weights are all that must be given: `Predictor::builder().weights("best.safetensors").build()?`.
    pub fn builder<'a>() -> PredictorBuilder<'a> {
        PredictorBuilder::default()
    }

    /// Reads weights, as [`weights::load`] does. `config` replaces the configuration stored with
    /// them; `overrides` change it (`image.min_size=400`).
    pub fn load(
        path: &Path,
        config: Option<Config>,
        overrides: &[String],
        device: &Device,
    ) -> Result<Self, PredictError> {
        Self::from_checkpoint(weights::load(path)?, path, config, overrides, device)
    }

    /// As [`Self::load`], from the bytes of a file that [`weights::save`] wrote; `name` stands for
    /// the file in errors.
    pub fn from_bytes(
        bytes: &[u8],
        name: &Path,
        overrides: &[String],
        device: &Device,
    ) -> Result<Self, PredictError> {
        let checkpoint = weights::load_bytes(bytes, name)?;
        Self::from_checkpoint(checkpoint, name, None, overrides, device)
    }

    fn from_checkpoint(
        checkpoint: Checkpoint,
        path: &Path,
        config: Option<Config>,
        overrides: &[String],
        device: &Device,
    ) -> Result<Self, PredictError> {
        if !checkpoint
            .tensors
            .keys()
            .any(|name| name.starts_with("roi_heads."))
        {
            return Err(PredictError::Weights(WeightsError::Unsupported {
                path: path.into(),
                reason: "it has a backbone only: train it with `mrcnn-cli train --weights`".into(),
            }));
        }
        let mut config = config.unwrap_or(checkpoint.config).with(overrides)?;
        if config.model.num_classes == 0 {
            config.model.num_classes = checkpoint.classes.len() + 1;
        }
        config.check()?;
        let model = MaskRcnn::unfilled(&config.model, device);
        let model = weights::load_state_dict(model, checkpoint.tensors, path)?;
        Ok(Self::new(&model, config, checkpoint.classes, device))
    }

    /// A predictor from a model, in training or not.
    pub fn new(model: &MaskRcnn, config: Config, classes: Classes, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        Self {
            model: model.valid(),
            config,
            classes: Arc::new(classes),
            device,
        }
    }

    /// The same predictor with activations in another precision; those of [`Self::load`] are f32, those of
    /// [`Self::new`] as in the model.
    pub fn with_precision(mut self, precision: Resolved) -> Self {
        self.model = self.model.with_precision(precision);
        self
    }

    /// Class names and category ids.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The configuration in use.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Height and width of the tensor that a picture becomes, padding included. Pictures for which they
    /// are equal are predicted in one batch as they are alone, up to rounding.
    pub fn input_size(&self, width: u32, height: u32) -> (usize, usize) {
        let image = &self.config.image;
        let size = image.resized(height, width);
        padded_size(
            [size].into_iter(),
            image.size_divisor,
            image.smallest_batch(),
        )
    }

    /// What is in one picture. Blocks; in a browser use [`Self::predict_async`].
    pub fn predict(&self, image: &RgbImage) -> Result<Prediction, PredictError> {
        caught(|| pollster::block_on(self.predict_async(image)))
    }

    /// As [`Self::predict`], without blocking.
    pub async fn predict_async(&self, image: &RgbImage) -> Result<Prediction, PredictError> {
        let found = self.predict_batch_async(&[image]).await?.pop();
        Ok(found.unwrap_or_else(|| self.prediction(image, Vec::new())))
    }

    /// What is in each picture. They are padded to one size, which costs time and moves scores a little
    /// near the border: pictures of one [`Self::input_size`] go together best.
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
            return Err(PredictError::EmptyPicture {
                index,
                width,
                height,
            });
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
        let detections = self.model.detect(batch, &resized).await?;
        let found = self.paste(detections, &sizes).await?;
        let per_image = images.iter().zip(found);
        Ok(per_image
            .map(|(image, found)| self.prediction(image, found))
            .collect())
    }

    fn prediction(&self, image: &RgbImage, detections: Vec<Detection>) -> Prediction {
        Prediction::new(image.dimensions(), detections, self.classes.clone())
    }
}
