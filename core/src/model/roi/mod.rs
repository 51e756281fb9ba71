//! RoI heads: from pooled RoIs to boxes and masks.

pub(crate) mod box_head;
pub(crate) mod mask_head;
pub(crate) mod pool;
pub(crate) mod select;

use super::init::Init;
use super::layer::Layer;
use super::memory::Activations;
use crate::config::ModelConfig;
use box_head::{BoxHead, BoxPredictor};
use burn::module::Module;
use burn::tensor::Tensor;
use mask_head::{MaskHead, MaskPredictor, count_mask_head, mask_head_forward, new_mask_head};

/// Box and mask heads.
#[derive(Module, Debug)]
pub struct RoiHeads {
    /// Fully connected layers, after convolutions if configured.
    pub box_head: BoxHead,
    /// Classes and box deltas.
    pub box_predictor: BoxPredictor,
    mask_head: MaskHead,
    mask_predictor: MaskPredictor,
}

impl RoiHeads {
    /// The heads for the configured pyramid and classes.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        Self {
            box_head: BoxHead::new(&init.child("box_head"), config),
            box_predictor: BoxPredictor::new(&init.child("box_predictor"), config),
            mask_head: new_mask_head(&init.child("mask_head"), config),
            mask_predictor: MaskPredictor::new(&init.child("mask_predictor"), config),
        }
    }

    /// Pooled RoIs `[r, c, p, p]`, `p` of the box head -> class logits `[r, k]`, the background
    /// first, and box deltas `[r, 4k]`.
    pub fn boxes(&self, pooled: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.boxes_of(pooled, None)
    }

    /// As [`Self::boxes`]; in training `valid` is the valid mask `[r]` of the RoIs, because padded slots must not count
    /// in the statistics of batch norm.
    pub(crate) fn boxes_of(
        &self,
        pooled: Tensor<4>,
        valid: Option<&Tensor<1>>,
    ) -> (Tensor<2>, Tensor<2>) {
        self.box_predictor
            .forward(self.box_head.forward(pooled, valid))
    }

    /// Pooled RoIs `[r, c, p, p]`, `p` of the mask head -> mask logits `[r, k, 2p, 2p]`.
    pub fn masks(&self, pooled: Tensor<4>) -> Tensor<4> {
        self.masks_of(pooled, None)
    }

    /// As [`Self::masks`]; `valid` as in [`Self::boxes_of`].
    pub(crate) fn masks_of(&self, pooled: Tensor<4>, valid: Option<&Tensor<1>>) -> Tensor<4> {
        let hidden = mask_head_forward(&self.mask_head, pooled, valid);
        self.mask_predictor.forward(hidden)
    }

    pub(super) fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let masks = self.mask_head.iter_mut();
        let masks = masks.map(|(conv, norm)| Layer::ConvNorm(conv, norm));
        (self.box_head.layers())
            .chain(self.box_predictor.layers())
            .chain(masks)
            .chain(self.mask_predictor.layers())
    }

    /// Counts the activations of an image.
    pub(crate) fn count(&self, memory: &mut Activations, config: &ModelConfig) {
        let rois = config.roi.batch_per_image;
        let objects = (rois as f64 * config.roi.positive_fraction).ceil() as usize;
        self.box_head.count(memory, rois as u64, config);
        let sizes = [objects, config.mask_head.pool];
        count_mask_head(memory, &self.mask_head, &self.mask_predictor, sizes);
    }
}
