//! RoI heads: from pooled RoIs to boxes and masks.

pub(crate) mod box_head;
pub(crate) mod mask_head;
pub(crate) mod pool;
pub(crate) mod select;

use super::init::Init;
use super::layer::Layer;
use super::layers::full;
use super::memory::Activations;
use crate::config::ModelConfig;
use box_head::{BoxHead, BoxPredictor};
use burn::module::Module;
use burn::tensor::Tensor;
use mask_head::{
    Chain, MaskHead, MaskPredictor, count_mask_head, is_linked, mask_head_forward, new_mask_head,
};
use mrcnn_kernels::has_links;

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
    /// first, and box deltas `[r, 4k]`; f32.
    pub fn boxes(&self, pooled: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        let (logits, deltas) = self.boxes_of(pooled, None);
        (full(logits), full(deltas))
    }

    /// As [`Self::boxes`], in the dtype of `pooled`; in training `valid` is the valid mask `[r]` of the RoIs, because
    /// padded slots must not count in the statistics of batch norm.
    pub(crate) fn boxes_of(
        &self,
        pooled: Tensor<4>,
        valid: Option<&Tensor<1>>,
    ) -> (Tensor<2>, Tensor<2>) {
        let is_linked = has_links(&pooled.device(), pooled.dtype());
        let features = self.box_head.forward_linked(pooled, valid, is_linked);
        self.box_predictor.predictions(features, is_linked)
    }

    /// Pooled RoIs `[r, c, p, p]`, `p` of the mask head -> mask logits `[r, k, 2p, 2p]`, f32.
    pub fn masks(&self, pooled: Tensor<4>) -> Tensor<4> {
        let (hidden, chain) = self.mask_features(pooled, None);
        self.mask_predictor.masks(hidden, chain)
    }

    /// The logits of [`Self::masks`] for the loss, `[r, k, cells]` in the dtype of `pooled`, with the cells in the
    /// order of [`reorder_targets`](mask_head::reorder_targets); `valid` as in [`Self::boxes_of`].
    #[cfg(feature = "train")]
    pub(crate) fn mask_cells(&self, pooled: Tensor<4>, valid: &Tensor<1>) -> Tensor<3> {
        let (hidden, chain) = self.mask_features(pooled, Some(valid));
        self.mask_predictor.cells(hidden, chain)
    }

    /// Input of the mask predictor, and how the layers before it are linked.
    fn mask_features(&self, pooled: Tensor<4>, valid: Option<&Tensor<1>>) -> (Tensor<4>, Chain) {
        let chain = Chain {
            is_linked: is_linked(&self.mask_head, &self.mask_predictor, &pooled),
            is_after_relu: !self.mask_head.is_empty(),
        };
        let hidden = mask_head_forward(&self.mask_head, pooled, valid, chain.is_linked);
        (hidden, chain)
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
