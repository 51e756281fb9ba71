//! Prediction: pictures in, detections in the pixels of the original pictures out.

mod builder;

pub use builder::{PredictorBuilder, WeightsSource};

use crate::boxes::{self, Bbox};
use crate::config::{Config, ConfigError};
use crate::data::Classes;
use crate::detection::Detection;
use crate::image::paste::{MaskRuns, pasted};
use crate::image::transform::{Planes, padded_size, prepare, stack_at_least};
use crate::model::{
    MaskRcnn, PackedPyramid, ScoredBox, filter_proposals, mask_probabilities, postprocess,
};
use crate::prediction::Prediction;
use crate::weights::{self, Checkpoint, WeightsError};
use ::image::RgbImage;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use mrcnn_backends::failure::caught;
use mrcnn_backends::{BackendError, PrecisionError, Resolved};
use mrcnn_kernels::{PasteWindow, paste_bits};
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

/// Masks are predicted for this many detections at a time, which bounds their memory.
const MASKS_AT_ONCE: usize = 128;

/// Probability from which a pixel belongs to the object.
const MASK_THRESHOLD: f32 = 0.5;

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
        let (packed, boxes) = self.find_boxes(&planes).await?;
        let found = self.find_detections(&packed, boxes, &sizes).await?;
        let per_image = images.iter().zip(found);
        Ok(per_image
            .map(|(image, found)| self.prediction(image, found))
            .collect())
    }

    fn prediction(&self, image: &RgbImage, detections: Vec<Detection>) -> Prediction {
        Prediction::new(image.dimensions(), detections, self.classes.clone())
    }

    /// Boxes and mask probabilities in the pixels of prepared pictures.
    pub async fn detect(&self, planes: &[Planes]) -> Result<Vec<Vec<Found>>, PredictError> {
        if planes.is_empty() {
            return Ok(Vec::new());
        }
        let (packed, boxes) = self.find_boxes(planes).await?;
        self.find_masks(&packed, boxes).await
    }

    /// The first stage of [`Self::detect`]: the boxes of each of `planes`, best first, with the
    /// features that [`Self::find_masks`] needs. `planes` must not be empty.
    pub async fn find_boxes(
        &self,
        planes: &[Planes],
    ) -> Result<(PackedPyramid, Vec<Vec<ScoredBox>>), PredictError> {
        let references: Vec<&Planes> = planes.iter().collect();
        let image = &self.config.image;
        let (values, shape) =
            stack_at_least(&references, image.size_divisor, image.smallest_batch());
        let images = Tensor::from_data(TensorData::new(values, shape), &self.device);
        let sizes: Vec<(u32, u32)> = planes
            .iter()
            .map(|p| (p.height as u32, p.width as u32))
            .collect();

        let pyramid = self.model.pyramid(images);
        let packed = self.model.pack(&pyramid);
        let padded = (shape[2], shape[3]);
        let boxes = if self.model.selects_on_device(&self.device) {
            let found = self.model.detect(&pyramid, &packed, padded, &sizes);
            found.read().await?
        } else {
            let proposals = self.proposals(&pyramid, padded, &sizes).await?;
            self.scored_boxes(&packed, &proposals, &sizes).await?
        };
        Ok((packed, boxes))
    }

    async fn proposals(
        &self,
        pyramid: &[Tensor<4>],
        padded: (usize, usize),
        sizes: &[(u32, u32)],
    ) -> Result<Vec<Vec<Bbox>>, PredictError> {
        let rpn = &self.config.model.rpn;
        let output = self.model.propose(pyramid);
        let anchors = self.model.anchors(padded, &output.grids);
        let objectness = floats(output.objectness).await?;
        let deltas = floats(output.deltas).await?;
        let count = anchors.boxes.len();
        let limits = [rpn.pre_nms_test, rpn.post_nms_test];
        Ok(sizes
            .iter()
            .enumerate()
            .map(|(i, &size)| {
                let objectness = &objectness[i * count..][..count];
                let deltas = &deltas[i * count * 4..][..count * 4];
                let kept = filter_proposals(objectness, deltas, &anchors, size, rpn, limits);
                kept.into_iter().map(|proposal| proposal.bbox).collect()
            })
            .collect())
    }

    async fn scored_boxes(
        &self,
        packed: &PackedPyramid,
        proposals: &[Vec<Bbox>],
        sizes: &[(u32, u32)],
    ) -> Result<Vec<Vec<ScoredBox>>, PredictError> {
        let rois: Vec<(usize, Bbox)> = proposals
            .iter()
            .enumerate()
            .flat_map(|(image, boxes)| boxes.iter().map(move |&bbox| (image, bbox)))
            .collect();
        if rois.is_empty() {
            return Ok(vec![Vec::new(); proposals.len()]);
        }
        let (logits, deltas) = self.model.boxes(packed, &rois);
        let classes = logits.dims()[1];
        let (logits, deltas) = (floats(logits).await?, floats(deltas).await?);
        let mut first = 0;
        Ok(proposals
            .iter()
            .zip(sizes)
            .map(|(rois, &size)| {
                let logits = &logits[first * classes..][..rois.len() * classes];
                let deltas = &deltas[first * classes * 4..][..rois.len() * classes * 4];
                first += rois.len();
                postprocess(logits, deltas, rois, size, &self.config.model.roi)
            })
            .collect())
    }

    /// The second stage of [`Self::detect`]: the masks of `boxes`, which may be fewer than were
    /// found (better scores, say). Where a picture has none, nothing is computed for it.
    pub async fn find_masks(
        &self,
        packed: &PackedPyramid,
        boxes: Vec<Vec<ScoredBox>>,
    ) -> Result<Vec<Vec<Found>>, PredictError> {
        let mut found: Vec<Vec<Found>> = boxes.iter().map(|_| Vec::new()).collect();
        for some in with_pictures(boxes).chunks(MASKS_AT_ONCE) {
            let masks = self.mask_probabilities(packed, some);
            let side = masks.dims()[1];
            let masks = floats(masks).await?;
            for ((image, scored), mask) in some.iter().zip(masks.chunks(side * side)) {
                found[*image].push(Found {
                    scored: *scored,
                    mask: mask.to_vec(),
                    side,
                });
            }
        }
        Ok(found)
    }

    /// The second stage of a prediction: the detections of `boxes` (see [`Self::find_masks`]), their
    /// masks pasted on the device; `sizes` are those of the prepared and of the original pictures,
    /// `(height, width)`. What is read is a bit a pixel of the boxes.
    pub async fn find_detections(
        &self,
        packed: &PackedPyramid,
        boxes: Vec<Vec<ScoredBox>>,
        sizes: &[((u32, u32), (u32, u32))],
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let mut found: Vec<Vec<Detection>> = boxes.iter().map(|_| Vec::new()).collect();
        for some in with_pictures(boxes).chunks(MASKS_AT_ONCE) {
            let masks = self.mask_probabilities(packed, some);
            let places = some.iter().map(|(image, scored)| {
                let (resized, original) = sizes[*image];
                (boxes::resize(&scored.bbox, resized, original), original)
            });
            let places: Vec<(Bbox, (u32, u32))> = places.collect();
            let masks = pasted(masks, &places, MASK_THRESHOLD).await?;
            for (((image, scored), (bbox, _)), mask) in some.iter().zip(places).zip(masks) {
                found[*image].push(Detection {
                    bbox,
                    label: scored.label,
                    score: scored.score,
                    mask,
                });
            }
        }
        Ok(found)
    }

    /// Of each box its label's mask, `[boxes, side, side]`.
    fn mask_probabilities(
        &self,
        packed: &PackedPyramid,
        boxes: &[(usize, ScoredBox)],
    ) -> Tensor<3> {
        let rois: Vec<(usize, Bbox)> = boxes.iter().map(|(i, b)| (*i, b.bbox)).collect();
        let labels: Vec<usize> = boxes.iter().map(|(_, b)| b.label).collect();
        mask_probabilities(self.model.masks(packed, &rois), &labels)
    }
}

/// Each box with the index of its picture.
fn with_pictures(boxes: Vec<Vec<ScoredBox>>) -> Vec<(usize, ScoredBox)> {
    let pictures = boxes.into_iter().enumerate();
    let of_picture = |(image, boxes): (usize, Vec<ScoredBox>)| {
        boxes.into_iter().map(move |scored| (image, scored))
    };
    pictures.flat_map(of_picture).collect()
}

/// A detection in the pixels of the resized picture, its mask not yet pasted.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Box, label and score.
    pub scored: ScoredBox,
    /// Mask probabilities, `side x side`, row-major.
    pub mask: Vec<f32>,
    /// Side of the mask in cells.
    pub side: usize,
}

impl Found {
    /// The detection in the original picture, its mask pasted; sizes are `(height, width)` of the
    /// prepared and of the original picture.
    pub fn into_detection(self, resized: (u32, u32), original: (u32, u32)) -> Detection {
        let bbox = boxes::resize(&self.scored.bbox, resized, original);
        let (height, width) = (original.0 as usize, original.1 as usize);
        let window = PasteWindow::new(bbox, self.side, width, height);
        let mut runs = MaskRuns::new(window, (height, width));
        runs.add(paste_bits(&self.mask, &window, MASK_THRESHOLD).into_iter());
        Detection {
            bbox,
            label: self.scored.label,
            score: self.scored.score,
            mask: runs.finish(),
        }
    }
}

async fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExecutionError> {
    Ok(tensor
        .into_data_async()
        .await?
        .convert::<f32>()
        .iter::<f32>()
        .collect())
}
