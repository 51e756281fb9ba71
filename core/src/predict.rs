//! Prediction: pictures in, detections in the pixels of the original pictures out.

use crate::boxes::{self, Bbox};
use crate::config::{Config, ConfigError};
use crate::data::Classes;
use crate::detection::Detection;
use crate::image::transform::{Planes, prepare, stack_at_least, to_rle};
use crate::model::{
    MaskRcnn, PackedPyramid, ScoredBox, filter_proposals, mask_probabilities, postprocess,
};
use crate::weights::{self, Checkpoint, WeightsError};
use ::image::RgbImage;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use mrcnn_backends::Resolved;
use mrcnn_kernels::paste_mask;
use std::path::Path;
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
}

/// A trained model with all that prediction needs.
#[derive(Debug)]
pub struct Predictor {
    model: MaskRcnn,
    config: Config,
    classes: Classes,
    device: Device,
}

/// Masks are predicted for this many detections at a time, which bounds their memory.
const MASKS_AT_ONCE: usize = 128;

/// Probability from which a pixel belongs to the object.
const MASK_THRESHOLD: f32 = 0.5;

impl Predictor {
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
            classes,
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

    /// Detections of one picture, best first. Blocks; in a browser use [`Self::predict_batch_async`].
    pub fn predict(&self, image: &RgbImage) -> Result<Vec<Detection>, PredictError> {
        Ok(self.predict_batch(&[image])?.pop().unwrap_or_default())
    }

    /// Detections of each picture. The pictures are padded to one size: similar ones go together.
    pub fn predict_batch(&self, images: &[&RgbImage]) -> Result<Vec<Vec<Detection>>, PredictError> {
        pollster::block_on(self.predict_batch_async(images))
    }

    /// As [`Self::predict_batch`], without blocking.
    pub async fn predict_batch_async(
        &self,
        images: &[&RgbImage],
    ) -> Result<Vec<Vec<Detection>>, PredictError> {
        let planes: Vec<Planes> = images
            .iter()
            .map(|image| prepare(image, &self.config.image))
            .collect();
        let sizes: Vec<(u32, u32)> = planes
            .iter()
            .map(|p| (p.height as u32, p.width as u32))
            .collect();
        let found = self.detect(&planes).await?;
        let originals = images.iter().map(|image| (image.height(), image.width()));
        let per_image = found.into_iter().zip(sizes).zip(originals);
        Ok(per_image
            .map(|((found, size), original)| {
                found
                    .into_iter()
                    .map(|f| f.into_detection(size, original))
                    .collect()
            })
            .collect())
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
        let all: Vec<(usize, ScoredBox)> = boxes
            .into_iter()
            .enumerate()
            .flat_map(|(image, boxes)| boxes.into_iter().map(move |b| (image, b)))
            .collect();
        for some in all.chunks(MASKS_AT_ONCE) {
            let rois: Vec<(usize, Bbox)> = some.iter().map(|(i, b)| (*i, b.bbox)).collect();
            let labels: Vec<usize> = some.iter().map(|(_, b)| b.label).collect();
            let logits = self.model.masks(packed, &rois);
            let [_, classes, side, _] = logits.dims();
            let masks = mask_probabilities(&floats(logits).await?, classes, &labels);
            for ((image, scored), mask) in some.iter().zip(masks) {
                found[*image].push(Found {
                    scored: *scored,
                    mask,
                    side,
                });
            }
        }
        Ok(found)
    }
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
        let pasted = paste_mask(&self.mask, self.side, bbox, width, height);
        Detection {
            bbox,
            label: self.scored.label,
            score: self.scored.score,
            mask: to_rle(&pasted, MASK_THRESHOLD, height, width),
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
