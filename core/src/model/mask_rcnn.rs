//! Mask R-CNN (He et al., 2017).

use super::backbone::BackboneFpn;
use super::init::Init;
use super::memory::Activations;
use super::roi::RoiHeads;
use super::roi::mask_head::mask_probabilities;
use super::roi::pool::{PackedPyramid, Rois};
use super::roi::select::{DetectionSlots, ScoredBox, postprocess};
use super::rpn::head::{Rpn, RpnOutput, prefers_windows, pyramid_cells};
use super::rpn::proposals::filter_proposals;
use super::slots::{BoxSlots, image_sizes, moved, selection_device};
use crate::config::ModelConfig;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError, FloatDType, Tensor};
use mrcnn_backends::Resolved;

/// Mask R-CNN with a feature pyramid.
#[derive(Module, Debug)]
pub struct MaskRcnn {
    /// Images -> P2 to P6.
    pub backbone: BackboneFpn,
    /// P2 to P6 -> objectness and deltas of the anchors.
    pub rpn: Rpn,
    /// Pooled RoIs -> classes, boxes and masks.
    pub roi_heads: RoiHeads,
    #[module(skip)]
    config: ModelConfig,
    /// Dtype of the activations after the stem.
    #[module(skip)]
    dtype: FloatDType,
}

/// Features of a batch of images.
#[derive(Clone, Debug)]
pub struct Features {
    /// P2 to P6, `[n, c, h, w]` at strides 4 to 64.
    pub pyramid: Vec<Tensor<4>>,
    /// P2 to P5, packed for RoIAlign.
    pub packed: PackedPyramid,
    /// Height and width of the padded images in pixels.
    pub padded: (usize, usize),
}

/// Detections of a batch of images, in pixels of the resized images.
#[derive(Clone, Debug)]
pub struct Detections {
    /// Boxes with the index of their image: images in order, best first.
    pub boxes: Vec<(usize, ScoredBox)>,
    /// Mask probabilities of the boxes on the device, `[r, side, side]`: in order, at most [`MASKS_AT_ONCE`] per
    /// tensor.
    pub masks: Vec<Tensor<3>>,
}

/// Masks are predicted for this many detections at a time, which bounds their memory.
pub const MASKS_AT_ONCE: usize = 128;

impl MaskRcnn {
    /// A model with random weights, a pure function of `seed` on every backend.
    ///
    /// `config.num_classes` counts the background and must be set.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        Self::from_init(config, &Init::random(seed, device))
    }

    /// A model for [`crate::weights::load_state_dict`], its parameters zero.
    pub(crate) fn uninitialized(config: &ModelConfig, device: &Device) -> Self {
        Self::from_init(config, &Init::zeros(device))
    }

    fn from_init(config: &ModelConfig, init: &Init<'_>) -> Self {
        Self {
            backbone: BackboneFpn::new(&init.child("backbone"), config),
            rpn: Rpn::new(&init.child("rpn"), config),
            roi_heads: RoiHeads::new(&init.child("roi_heads"), config),
            config: config.clone(),
            dtype: FloatDType::F32,
        }
    }

    /// Detects objects: ResNet and FPN, region proposals, boxes, masks.
    ///
    /// * `images` - normalized, `[n, 3, h, w]`, sides a multiple of 32.
    /// * `sizes` - height and width of each image without padding.
    ///
    /// Reads from the device once, after the boxes. Fails if the device fails.
    pub async fn detect(
        &self,
        images: Tensor<4>,
        sizes: &[(u32, u32)],
    ) -> Result<Detections, ExecutionError> {
        let features = self.features(images);
        let proposals = self.propose(&features, sizes).await?;
        let boxes = self.detect_boxes(&features, proposals, sizes).await?;
        Ok(self.detect_masks(&features, boxes))
    }

    /// Backbone: normalized images `[n, 3, h, w]`, sides a multiple of 32 -> C2 to C5.
    pub fn body(&self, images: Tensor<4>) -> [Tensor<4>; 4] {
        (self.backbone.body).forward_in(images, self.dtype, false)
    }

    /// Backbone and FPN: normalized images `[n, 3, h, w]`, sides a multiple of 32 -> P2 to P6, `[n, c, h, w]` at
    /// strides 4 to 64, in the dtype of the model.
    pub fn pyramid(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.backbone.forward_in(images, self.dtype)
    }

    /// Backbone, FPN and packing: normalized images `[n, 3, h, w]`, sides a multiple of 32 -> features.
    pub fn features(&self, images: Tensor<4>) -> Features {
        let [_, _, height, width] = images.dims();
        let pyramid = self.pyramid(images);
        Features {
            packed: PackedPyramid::new(&pyramid, &self.config.roi),
            pyramid,
            padded: (height, width),
        }
    }

    /// RPN: the proposals of each image, best first.
    pub async fn propose(
        &self,
        features: &Features,
        sizes: &[(u32, u32)],
    ) -> Result<BoxSlots, ExecutionError> {
        let output = self.rpn.forward(&features.pyramid);
        let device = output.objectness.device();
        let selecting = selection_device(&device, &self.selection_limits())?;
        let output = output.moved(&selecting).await?;
        let proposals = self.proposals_of(output, features.padded, sizes);
        proposals.trimmed()?.moved(&device).await
    }

    fn proposals_of(
        &self,
        output: RpnOutput,
        padded: (usize, usize),
        sizes: &[(u32, u32)],
    ) -> BoxSlots {
        let device = output.objectness.device();
        let rpn = &self.config.rpn;
        filter_proposals(
            output.objectness,
            output.deltas,
            &self.rpn.anchors(padded, &output.grids, rpn, &device),
            image_sizes(sizes, &device),
            rpn,
            self.proposal_limits(),
        )
    }

    /// Box head: the detected boxes of each image, best first.
    pub async fn detect_boxes(
        &self,
        features: &Features,
        proposals: BoxSlots,
        sizes: &[(u32, u32)],
    ) -> Result<Vec<Vec<ScoredBox>>, ExecutionError> {
        let (logits, deltas) = self.box_head_of(features, &proposals);
        let selecting = selection_device(&logits.device(), &self.selection_limits())?;
        let logits = moved(logits, &selecting).await?;
        let deltas = moved(deltas, &selecting).await?;
        let proposals = proposals.moved(&selecting).await?;
        let found = self.select_boxes((logits, deltas), &proposals, sizes);
        found.read().await
    }

    /// Class logits and box deltas of all slots of the proposals.
    fn box_head_of(&self, features: &Features, proposals: &BoxSlots) -> (Tensor<2>, Tensor<2>) {
        let rois = Rois::from_slots(proposals.boxes.clone());
        self.box_head(&features.packed, &rois)
    }

    /// The detected boxes of the box head's output, on its device.
    fn select_boxes(
        &self,
        (logits, deltas): (Tensor<2>, Tensor<2>),
        proposals: &BoxSlots,
        sizes: &[(u32, u32)],
    ) -> DetectionSlots {
        let sizes = image_sizes(sizes, &logits.device());
        postprocess(logits, deltas, proposals, sizes, &self.config.roi)
    }

    /// Mask head: the masks of `boxes`, which may be fewer than were detected.
    pub fn detect_masks(&self, features: &Features, boxes: Vec<Vec<ScoredBox>>) -> Detections {
        let images = boxes.into_iter().enumerate();
        let with_image = |(image, boxes): (usize, Vec<ScoredBox>)| {
            boxes.into_iter().map(move |scored| (image, scored))
        };
        let boxes: Vec<(usize, ScoredBox)> = images.flat_map(with_image).collect();
        let device = features.packed.device();
        let masks = boxes.chunks(MASKS_AT_ONCE).map(|boxes| {
            let rois: Vec<_> = boxes
                .iter()
                .map(|(image, scored)| (*image, scored.bbox))
                .collect();
            let labels: Vec<usize> = boxes.iter().map(|(_, scored)| scored.label).collect();
            let logits = self.mask_head(&features.packed, &Rois::new(&rois, &device));
            mask_probabilities(logits, &labels)
        });
        Detections {
            masks: masks.collect(),
            boxes,
        }
    }

    /// Boxes and mask logits `[n * slots, k, side, side]` in fixed slots, without reading from the device, so that the
    /// work can be recorded as a graph. The device must support [`Self::selection_limits`], see
    /// [`mrcnn_kernels::can_select`].
    ///
    /// [`Self::detect`] has the same stages, but selects on another device if this one cannot, and reads the boxes so
    /// that masks are predicted for detected boxes only. Here padded slots have masks too.
    pub fn detect_in_slots(
        &self,
        images: Tensor<4>,
        sizes: &[(u32, u32)],
    ) -> (DetectionSlots, Tensor<4>) {
        let features = self.features(images);
        let output = self.rpn.forward(&features.pyramid);
        let proposals = self.proposals_of(output, features.padded, sizes);
        let output = self.box_head_of(&features, &proposals);
        let found = self.select_boxes(output, &proposals, sizes);
        let rois = Rois::from_slots(found.boxes.boxes.clone());
        let masks = self.mask_head(&features.packed, &rois);
        (found, masks)
    }

    /// Class logits `[r, k]` and box deltas `[r, 4k]` of `r` RoIs.
    pub fn box_head(&self, features: &PackedPyramid, rois: &Rois) -> (Tensor<2>, Tensor<2>) {
        let pooled = features.pool(rois, self.config.box_head.pool);
        self.roi_heads.boxes(pooled)
    }

    /// Mask logits `[r, k, 2p, 2p]` of `r` RoIs, `p` bins of the mask head.
    pub fn mask_head(&self, features: &PackedPyramid, rois: &Rois) -> Tensor<4> {
        let pooled = features.pool(rois, self.config.mask_head.pool);
        self.roi_heads.masks(pooled)
    }

    /// [`Self::box_head`] for sampled RoIs of a training step with their valid mask `[r]`.
    #[cfg(feature = "train")]
    pub(crate) fn box_head_of_samples(
        &self,
        features: &PackedPyramid,
        rois: &Rois,
        valid: &Tensor<1>,
    ) -> (Tensor<2>, Tensor<2>) {
        let pooled = features.pool(rois, self.config.box_head.pool);
        self.roi_heads.boxes_of(pooled, Some(valid))
    }

    /// [`Self::mask_head`] for sampled RoIs of a training step with their valid mask `[r]`: `[r, k, cells]`, see
    /// [`reorder_targets`](crate::model::roi::mask_head::reorder_targets).
    #[cfg(feature = "train")]
    pub(crate) fn mask_head_of_samples(
        &self,
        features: &PackedPyramid,
        rois: &Rois,
        valid: &Tensor<1>,
    ) -> Tensor<3> {
        let pooled = features.pool(rois, self.config.mask_head.pool);
        self.roi_heads.mask_cells(pooled, valid)
    }

    /// The same weights, which stay f32, with activations in the dtype of `precision`. The stem and the statistics of
    /// norms are f32 in every precision, and so are the outputs of the heads in prediction.
    pub fn with_precision(mut self, precision: Resolved) -> Self {
        self.dtype = precision.dtype();
        self
    }

    /// The same model, whose detections have scores above `threshold`.
    pub fn with_score_threshold(mut self, threshold: f32) -> Self {
        self.config.roi.score_threshold = threshold;
        self
    }

    /// The device of the parameters.
    pub(crate) fn device(&self) -> Device {
        self.devices().remove(0)
    }

    /// The dtype of the activations after the stem.
    pub fn dtype(&self) -> FloatDType {
        self.dtype
    }

    /// The configuration of the network.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Proposals per level before suppression, and per image after it.
    fn proposal_limits(&self) -> [usize; 2] {
        let rpn = &self.config.rpn;
        [rpn.pre_nms_test, rpn.post_nms_test]
    }

    /// Largest number of boxes that detection selects at a time, for [`mrcnn_kernels::can_select`].
    pub fn selection_limits(&self) -> [usize; 3] {
        let [pre_nms, post_nms] = self.proposal_limits();
        [pre_nms, post_nms, self.config.roi.max_detections]
    }

    /// Bytes of activations in a training step, per image of `height x width` pixels.
    ///
    /// Counted layer by layer: what the backward pass needs of each part with trained parameters. As many objects are
    /// counted as RoIs may be sampled, so images with few objects need less. If the graph `is_cut` at the pyramid, as
    /// with several ranks on CUDA, its levels exist beside the packed ones.
    pub fn activation_bytes(&self, height: usize, width: usize, is_cut: bool) -> u64 {
        let cells = |stride: usize| (height.div_ceil(stride) * width.div_ceil(stride)) as u64;
        let mut memory = Activations::new(self.dtype);
        let by_windows = prefers_windows(&self.config.rpn, pyramid_cells(&cells));
        self.backbone
            .count(&mut memory, &cells, is_cut || !by_windows);
        self.rpn.count(&mut memory, &self.config.rpn, &cells);
        let mut packed = Activations::of(memory.bytes);
        for level in 0..4 {
            let channels = self.config.fpn_channels as u64;
            packed.add(channels * cells(4 << level), memory.bytes, true);
        }
        memory.keep(packed);
        self.roi_heads.count(&mut memory, &self.config);
        memory.total()
    }
}
