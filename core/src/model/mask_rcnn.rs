//! The whole model: its parts, and how features flow between them.

use super::backbone::fpn::Fpn;
use super::backbone::resnet::ResNet;
use super::init::initialize;
use super::roi::box_head::{BoxHead, BoxPredictor};
use super::roi::mask_head::{MaskHead, MaskPredictor, mask_head_forward, new_mask_head};
use super::roi::select::{
    AnchorSlots, DetectionSlots, filter_proposal_slots, picture_sizes, postprocess_slots, roi_rows,
};
use super::rpn::head::{Rpn, RpnOutput};
use crate::boxes::{Anchors, Bbox, pyramid_level};
use crate::config::{BoxHeadConfig, MaskHeadConfig, ModelConfig, RoiConfig, RpnConfig};
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use mrcnn_backends::Resolved;
use mrcnn_kernels::{MAX_TOP_K, RoiAlignParams, has_selection_kernels, pack_pyramid, roi_align};

/// Mask R-CNN with a ResNet-FPN backbone.
#[derive(Module, Debug)]
pub struct MaskRcnn {
    /// Pictures -> P2 to P6.
    pub backbone: BackboneFpn,
    /// P2 to P6 -> objectness and deltas of the anchors.
    pub rpn: Rpn,
    /// Pooled regions -> classes, boxes and masks.
    pub roi_heads: RoiHeads,
    #[module(skip)]
    config: ModelConfig,
    /// Of the activations behind the stem.
    #[module(skip)]
    format: FloatDType,
}

/// ResNet and FPN.
#[derive(Module, Debug)]
pub struct BackboneFpn {
    /// C2 to C5.
    pub body: ResNet,
    /// P2 to P6.
    pub fpn: Fpn,
}

/// Box and mask heads.
#[derive(Module, Debug)]
pub struct RoiHeads {
    /// Two fully connected layers.
    pub box_head: BoxHead,
    /// Classes and box deltas.
    pub box_predictor: BoxPredictor,
    mask_head: MaskHead,
    mask_predictor: MaskPredictor,
}

impl BackboneFpn {
    /// Normalised pictures `[n, 3, h, w]`, sides a multiple of 32 -> P2 to P6, `[n, c, h, w]` at strides
    /// 4 to 64, in the format of the pictures.
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.fpn.forward(self.body.forward(images))
    }
}

impl RoiHeads {
    /// Pooled regions `[r, c, p, p]`, `p` of the box head -> class logits `[r, k]`, the background
    /// first, and box deltas `[r, 4k]`.
    pub fn boxes(&self, pooled: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.box_predictor.forward(self.box_head.forward(pooled))
    }

    /// Pooled regions `[r, c, p, p]`, `p` of the mask head -> mask logits `[r, k, 2p, 2p]`.
    pub fn masks(&self, pooled: Tensor<4>) -> Tensor<4> {
        self.mask_predictor
            .forward(mask_head_forward(&self.mask_head, pooled))
    }
}

/// A region to pool: the picture it lies in, and its box in pixels of the resized picture.
pub type Roi = (usize, Bbox);

/// Features are pooled from P2 (k = 2) to P5; P6 serves the RPN only.
const POOLED_LEVELS: (i32, i32) = (2, 5);

impl MaskRcnn {
    /// A model with random weights, a pure function of `seed` on every backend.
    ///
    /// `config.num_classes` counts the background and must be set.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        initialize(Self::unfilled(config, device), config, seed)
    }

    /// A model for [`crate::weights::load_state_dict`], its parameters zero: 44 million random numbers
    /// that nobody uses take seconds in a browser.
    pub(crate) fn unfilled(config: &ModelConfig, device: &Device) -> Self {
        Self {
            backbone: BackboneFpn {
                body: ResNet::new(config, device),
                fpn: Fpn::new(config, device),
            },
            rpn: Rpn::new(config, device),
            roi_heads: RoiHeads {
                box_head: BoxHead::new(config, device),
                box_predictor: BoxPredictor::new(config, device),
                mask_head: new_mask_head(config, device),
                mask_predictor: MaskPredictor::new(config, device),
            },
            config: config.clone(),
            format: FloatDType::F32,
        }
    }

    /// The same weights, which stay f32, with activations in the format of `precision`. The stem, statistics
    /// of norms and what the heads say are f32 in every precision.
    pub fn with_precision(mut self, precision: Resolved) -> Self {
        self.format = precision.format();
        self
    }

    /// The format of the activations behind the stem.
    pub fn format(&self) -> FloatDType {
        self.format
    }

    /// The network's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Normalised pictures `[n, 3, h, w]`, sides a multiple of 32 -> C2 to C5.
    pub fn body(&self, images: Tensor<4>) -> [Tensor<4>; 4] {
        self.backbone.body.forward_in(images, self.format)
    }

    /// Normalised pictures `[n, 3, h, w]`, sides a multiple of 32 -> P2 to P6.
    pub fn pyramid(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.backbone.fpn.forward(self.body(images))
    }

    /// P2 to P6 -> one logit and four deltas an anchor.
    pub fn propose(&self, pyramid: &[Tensor<4>]) -> RpnOutput {
        self.rpn.forward(pyramid)
    }

    /// One level -> its logits `[n, a, h, w]` and deltas `[n, 4a, h, w]`.
    pub fn propose_level(&self, feature: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        self.rpn.level(feature)
    }

    /// The anchors for padded pictures `(height, width)` and feature maps `grids`.
    pub fn anchors(&self, padded: (usize, usize), grids: &[(usize, usize)]) -> Anchors {
        let rpn = &self.config.rpn;
        Anchors::new(
            padded,
            grids,
            &rpn.anchor_sizes,
            &rpn.anchor_ratios,
            rpn.round_anchors,
        )
    }

    /// Packs P2 to P5 for [`Self::boxes`] and [`Self::masks`]; done once for both.
    pub fn pack(&self, pyramid: &[Tensor<4>]) -> PackedPyramid {
        PackedPyramid::new(pyramid, &self.config.roi)
    }

    /// Class logits `[r, k]` and box deltas `[r, 4k]` of `rois`, which must not be empty.
    pub fn boxes(&self, pyramid: &PackedPyramid, rois: &[Roi]) -> (Tensor<2>, Tensor<2>) {
        let BoxHeadConfig { pool, .. } = self.config.box_head;
        self.roi_heads.boxes(pyramid.pool(rois, pool))
    }

    /// The detected boxes of every picture, found on the device with nothing read.
    ///
    /// * `padded` - height and width of the padded pictures; `sizes` - those without padding.
    /// * Selection's limits must fit [`selects_on_device`](Self::selects_on_device).
    ///
    /// Returns [`DetectionSlots`].
    pub fn detect(
        &self,
        pyramid: &[Tensor<4>],
        packed: &PackedPyramid,
        padded: (usize, usize),
        sizes: &[(u32, u32)],
    ) -> DetectionSlots {
        let RpnConfig {
            pre_nms_test,
            post_nms_test,
            ..
        } = self.config.rpn;
        let device = packed.cells.device();
        let sizes = picture_sizes(sizes, &device);
        let output = self.propose(pyramid);
        let anchors = AnchorSlots::new(padded, &output.grids, &self.config.rpn, &device);
        let proposals = filter_proposal_slots(
            output.objectness,
            output.deltas,
            &anchors,
            sizes.clone(),
            &self.config.rpn,
            [pre_nms_test, post_nms_test],
        );
        let (logits, deltas) = self.boxes_of_slots(packed, proposals.boxes.clone());
        postprocess_slots(logits, deltas, &proposals, sizes, &self.config.roi)
    }

    /// [`Self::boxes`] of regions in slots `[n, slots, 4]`, pixels of the resized pictures.
    pub fn boxes_of_slots(
        &self,
        pyramid: &PackedPyramid,
        slots: Tensor<3>,
    ) -> (Tensor<2>, Tensor<2>) {
        let pooled = pyramid.pool_slots(slots, self.config.box_head.pool);
        self.roi_heads.boxes(pooled)
    }

    /// [`Self::masks`] of regions in slots `[n, slots, 4]`, pixels of the resized pictures.
    pub fn masks_of_slots(&self, pyramid: &PackedPyramid, slots: Tensor<3>) -> Tensor<4> {
        let pooled = pyramid.pool_slots(slots, self.config.mask_head.pool);
        self.roi_heads.masks(pooled)
    }

    /// Whether a GPU matches and samples for training ([`crate::train`]), and the limits of it fit.
    pub fn trains_on_device(&self, device: &Device) -> bool {
        let ModelConfig { rpn, roi, .. } = &self.config;
        fits_selection(
            [
                rpn.pre_nms_train,
                rpn.post_nms_train,
                rpn.batch_per_image,
                roi.batch_per_image,
            ],
            device,
        )
    }

    /// Whether [`Self::detect`] serves this device and configuration: a GPU, and limits that its
    /// selection can hold. The processor is faster with the host's selection.
    pub fn selects_on_device(&self, device: &Device) -> bool {
        let ModelConfig { rpn, roi, .. } = &self.config;
        fits_selection(
            [rpn.pre_nms_test, rpn.post_nms_test, roi.max_detections],
            device,
        )
    }

    /// Mask logits `[r, k, 2p, 2p]` of `rois`, which must not be empty.
    pub fn masks(&self, pyramid: &PackedPyramid, rois: &[Roi]) -> Tensor<4> {
        let MaskHeadConfig { pool, .. } = self.config.mask_head;
        self.roi_heads.masks(pyramid.pool(rois, pool))
    }
}

/// Whether `device` has kernels that select as many as each of `limits`.
fn fits_selection<const N: usize>(limits: [usize; N], device: &Device) -> bool {
    let limits_fit = limits.iter().all(|limit| (1..=MAX_TOP_K).contains(limit));
    limits_fit && has_selection_kernels(device)
}

/// P2 to P5 as one channels-last tensor, ready for RoIAlign.
#[derive(Clone, Debug)]
pub struct PackedPyramid {
    cells: Tensor<3>,
    align: RoiAlignParams,
}

impl PackedPyramid {
    /// Packs P2 to P5 `[n, c, h, w]`, at strides 4 to 32 of the resized pictures; what follows is left
    /// out. Fewer than four levels are an error of the program: it panics.
    pub fn new(pyramid: &[Tensor<4>], roi: &RoiConfig) -> Self {
        let scales = [0.25, 0.125, 0.0625, 0.03125];
        let (cells, levels) = pack_pyramid(&pyramid[..4], &scales);
        let align = RoiAlignParams {
            output: [0, 0],
            sampling_ratio: roi.sampling_ratio,
            aligned: roi.aligned,
            levels,
        };
        Self { cells, align }
    }

    /// RoIAlign of `rois [r, 6]`, rows as [`roi_align`] takes them: `[r, c, bins, bins]`.
    fn pool_rows(&self, rois: Tensor<2>, bins: usize) -> Tensor<4> {
        let align = RoiAlignParams {
            output: [bins, bins],
            ..self.align.clone()
        };
        roi_align(self.cells.clone(), rois, &align)
    }

    /// RoIAlign of regions `[n, slots, 4]`: `[n * slots, c, bins, bins]`. No gradient flows to them.
    fn pool_slots(&self, slots: Tensor<3>, bins: usize) -> Tensor<4> {
        let mut rows = roi_rows(slots, POOLED_LEVELS);
        if self.cells.device().is_autodiff() && !rows.device().is_autodiff() {
            rows = Tensor::from_inner(rows);
        }
        self.pool_rows(rows, bins)
    }

    /// RoIAlign of `rois`, each from the level that fits its size: `[r, c, bins, bins]`.
    pub fn pool(&self, rois: &[Roi], bins: usize) -> Tensor<4> {
        let (k_min, k_max) = POOLED_LEVELS;
        let rows: Vec<f32> = rois
            .iter()
            .flat_map(|&(image, [x1, y1, x2, y2])| {
                let level = pyramid_level(&[x1, y1, x2, y2], k_min, k_max);
                [image as f32, level as f32, x1, y1, x2, y2]
            })
            .collect();
        let rows = TensorData::new(rows, [rois.len(), 6]);
        self.pool_rows(Tensor::from_data(rows, &self.cells.device()), bins)
    }
}
