//! Training samples of a batch and their targets: anchors and proposals are matched with the ground truth and sampled.
//!
//! Everything is computed on the device in a fixed number of slots, without reading from it. On the CPU, where the host
//! can read without waiting, padded slots are removed at the end, so that the heads compute no more than they need.

use super::features::StepFeatures;
use super::samples::{AnchorSamples, MaskSamples, RoiSamples, Samples};
use crate::config::{ModelConfig, RoiConfig, RpnConfig};
use crate::model::{
    BoxSlots, MaskRcnn, Rois, RpnOutput, filter_proposals, image_sizes, selection_device,
};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use crate::train::input::masks::bit_masks;
use burn::tensor::{Bool, Device, ExecutionError, Int, Tensor, TensorData};
use mrcnn_kernels::{
    BACKGROUND, IGNORED, MatchThresholds, mask_targets, match_boxes, sampling_scores,
    top_k_segments,
};

/// Matches anchors and proposals with the ground truth, and samples them. `stream` determines the samples, so every
/// step needs its own.
///
/// If the kernels of a GPU cannot select as many boxes as configured, the samples are computed on the CPU, see
/// [`can_select`](mrcnn_kernels::can_select).
pub fn sample(
    model: &MaskRcnn,
    batch: &Batch,
    step: &StepFeatures,
    stream: Stream,
) -> Result<Samples, ExecutionError> {
    let ModelConfig { rpn, roi, .. } = model.config();
    let home = step.rpn.objectness.device();
    let limits = [
        rpn.pre_nms_train,
        rpn.post_nms_train,
        rpn.batch_per_image,
        roi.batch_per_image,
    ];
    let device = selection_device(&home, &limits)?;
    let output = pollster::block_on(step.rpn.clone().moved(&device))?;
    let samples = of_output(model, batch, output, step.padded, stream);
    Ok(samples.dense()?.on(&home))
}

/// [`sample`] with padded slots, on the device of the features; nothing is read.
pub fn sample_in_slots(
    model: &MaskRcnn,
    batch: &Batch,
    step: &StepFeatures,
    stream: Stream,
) -> Samples {
    of_output(model, batch, step.rpn.clone(), step.padded, stream)
}

/// Samples on the device of the RPN's `output`, for images padded to `(height, width)`.
fn of_output(
    model: &MaskRcnn,
    batch: &Batch,
    output: RpnOutput,
    padded: (usize, usize),
    stream: Stream,
) -> Samples {
    let ModelConfig {
        rpn,
        roi,
        mask_head,
        ..
    } = model.config();
    let device = output.objectness.device();
    let gt = GroundTruthSlots::new(batch, &device);
    let streams = (0..batch.gts.len()).map(|image| batch.streams(image, stream));
    let (anchor_seeds, roi_seeds): (Vec<u64>, Vec<u64>) = streams
        .map(|[anchors, rois]| (anchors.seed(), rois.seed()))
        .unzip();
    let anchors = model.rpn.anchors(padded, &output.grids, rpn, &device);
    let proposals = filter_proposals(
        output.objectness,
        output.deltas,
        &anchors,
        image_sizes(&batch.sizes, &device),
        rpn,
        [rpn.pre_nms_train, rpn.post_nms_train],
    );
    let (rois, masks) = sample_rois(proposals, &gt, &roi_seeds, roi, mask_head.pool * 2);
    Samples {
        anchors: sample_anchors(anchors.boxes, &gt, &anchor_seeds, rpn),
        rois,
        masks,
    }
}

/// The ground truth of a batch, without a graph. The number of slots per image is a power of two, so that few shapes
/// occur.
struct GroundTruthSlots {
    /// `[n, t, 4]`, pixels of the resized images.
    boxes: Tensor<3>,
    /// Classes, `[n, t]`.
    labels: Tensor<2, Int>,
    /// Objects per image, in its first slots, `[n]`.
    counts: Tensor<1, Int>,
    /// See [`mask_targets`].
    masks: (Tensor<3, Int>, Tensor<1, Int>),
}

/// Minimum number of ground-truth slots per image.
const LEAST_SLOTS: usize = 16;

impl GroundTruthSlots {
    fn new(batch: &Batch, device: &Device) -> Self {
        let n = batch.gts.len();
        let most = batch.gts.iter().map(|gt| gt.boxes.len()).max();
        let slots = most.unwrap_or(0).next_power_of_two().max(LEAST_SLOTS);
        let mut boxes = vec![[0.0f32; 4]; n * slots];
        let mut labels = vec![0i32; n * slots];
        for (image, gt) in batch.gts.iter().enumerate() {
            for (slot, (bbox, &label)) in gt.boxes.iter().zip(&gt.labels).enumerate() {
                boxes[image * slots + slot] = *bbox;
                labels[image * slots + slot] = label as i32;
            }
        }
        let counts: Vec<i32> = batch.gts.iter().map(|t| t.boxes.len() as i32).collect();
        let masks = batch.gts.iter().map(|gt| gt.masks.as_slice());
        let boxes = TensorData::new(boxes.into_flattened(), [n, slots, 4]);
        Self {
            boxes: Tensor::from_data(boxes, device),
            labels: Tensor::from_data(TensorData::new(labels, [n, slots]), device),
            counts: Tensor::from_data(TensorData::new(counts, [n]), device),
            masks: bit_masks(masks, slots).upload(n, device),
        }
    }

    /// Valid mask, `[n, t]`.
    fn valid(&self) -> Tensor<2, Bool> {
        let [n, slots] = self.labels.dims();
        let places = arange(slots, &self.labels.device()).expand([n, slots]);
        places.lower(self.counts.clone().unsqueeze_dim::<2>(1).expand([n, slots]))
    }

    /// Matches boxes to the ground truth of their images, see [`match_boxes`].
    fn matches(&self, boxes: Tensor<3>, thresholds: &MatchThresholds) -> Tensor<2, Int> {
        let (gt, counts) = (self.boxes.clone(), self.counts.clone());
        match_boxes(boxes, gt, counts, thresholds)
    }

    /// The boxes at the indices `matched [n, k]`; the first box if an index is negative.
    fn boxes_of(&self, matched: Tensor<2, Int>) -> Tensor<3> {
        rows(self.boxes.clone(), matched.clamp_min(0))
    }
}

/// The index of no candidate; it stays negative when the length of a row is added.
const NONE: i64 = -(1 << 30);

/// Randomly sampled candidates in slots, objects first.
struct Sample {
    /// Index of the candidate; 0 in padded slots, `[n, k]`.
    candidates: Tensor<2, Int>,
    /// Slot of the object's ground truth, negative for background, `[n, k]`.
    matched: Tensor<2, Int>,
    /// Valid mask, `[n, k]`.
    valid: Tensor<2, Bool>,
}

impl Sample {
    /// Samples `count` of `matches [n, b]`, at most `quota` objects and background for the rest. Whether a candidate is
    /// sampled is a function of the seed, its index and the other candidates, the same on every device.
    fn choose(matches: Tensor<2, Int>, seeds: &[u64], count: usize, quota: usize) -> Self {
        let [n, total] = matches.dims();
        let device = matches.device();
        let scores = sampling_scores(matches.clone(), seeds, &device);
        let (scores, best) = top_k_segments(scores, &[0..total, total..2 * total], count);
        // If there are fewer than `count`, the remaining slots have no candidate of this kind.
        let best = best.mask_fill(scores.equal_elem(f32::NEG_INFINITY), NONE);
        let kind = |kind: usize| best.clone().narrow(1, kind, 1).reshape([n, count]);
        let (objects, background) = (kind(0), kind(1) - total as i64);
        let found = objects.clone().greater_equal_elem(0).int().sum_dim(1);
        let found = found.clamp_max(quota as i64).expand([n, count]);
        let slots = arange(count, &device).expand([n, count]);
        let is_object = slots.clone().lower(found.clone());
        let background = background.gather(1, (slots - found).clamp_min(0));
        let chosen = background.mask_where(is_object, objects);
        let valid = chosen.clone().greater_equal_elem(0);
        let candidates = chosen.clamp_min(0);
        let matched = matches.gather(1, candidates.clone());
        Self {
            candidates,
            matched: matched.mask_fill(valid.clone().bool_not(), BACKGROUND),
            valid,
        }
    }

    fn is_object(&self) -> Tensor<2, Bool> {
        self.matched.clone().greater_equal_elem(0)
    }
}

fn sample_anchors(
    anchors: Tensor<3>,
    gt: &GroundTruthSlots,
    seeds: &[u64],
    config: &RpnConfig,
) -> AnchorSamples {
    let thresholds = MatchThresholds {
        fg_iou: config.fg_iou,
        bg_iou: config.bg_iou,
        allow_low_quality: true,
    };
    let matches = gt.matches(anchors.clone(), &thresholds);
    let count = config.batch_per_image;
    let quota = (count as f64 * config.positive_fraction) as usize;
    let sample = Sample::choose(matches, seeds, count, quota);
    let ([n, ..], [_, total, _]) = (sample.candidates.dims(), anchors.dims());
    let references = rows(anchors.expand([n, total, 4]), sample.candidates.clone());
    let objects = gt.boxes_of(sample.matched.clone());
    let is_object = sample.is_object();
    AnchorSamples {
        index: sample.candidates,
        labels: is_object.clone().float(),
        deltas: encode(objects, references, [1.0; 4], is_object),
        valid: sample.valid.float(),
    }
}

fn sample_rois(
    proposals: BoxSlots,
    gt: &GroundTruthSlots,
    seeds: &[u64],
    config: &RoiConfig,
    side: usize,
) -> (RoiSamples, MaskSamples) {
    let is_proposal = proposals.scores.greater_elem(f32::NEG_INFINITY);
    let candidates = Tensor::cat(vec![proposals.boxes, gt.boxes.clone()], 1);
    let is_candidate = Tensor::cat(vec![is_proposal, gt.valid()], 1);
    let thresholds = MatchThresholds {
        fg_iou: config.fg_iou,
        bg_iou: config.bg_iou,
        allow_low_quality: false,
    };
    let matches = gt.matches(candidates.clone(), &thresholds);
    let matches = matches.mask_fill(is_candidate.bool_not(), IGNORED);
    let count = config.batch_per_image;
    let quota = (count as f64 * config.positive_fraction) as usize;
    let sample = Sample::choose(matches, seeds, count, quota);
    let boxes = rows(candidates, sample.candidates.clone());
    let is_object = sample.is_object();
    let labels = gt.labels.clone();
    let labels = labels.gather(1, sample.matched.clone().clamp_min(0));
    let labels = labels.mask_fill(is_object.clone().bool_not(), 0);
    let masks = {
        // Objects come first: the mask head needs no slots beyond their quota.
        let quota = quota.max(1);
        let boxes = boxes.clone().narrow(1, 0, quota);
        let matched = sample.matched.clone().narrow(1, 0, quota);
        let [n, ..] = boxes.dims();
        let targets = mask_targets(boxes.clone(), matched.clone(), gt.masks.clone(), side);
        MaskSamples {
            rois: Rois::from_slots(boxes),
            labels: labels.clone().narrow(1, 0, quota).reshape([n * quota]),
            targets: targets.reshape([n * quota, side * side]),
            valid: matched.greater_equal_elem(0).float().reshape([n * quota]),
        }
    };
    let [n, k, _] = boxes.dims();
    let objects = gt.boxes_of(sample.matched.clone());
    let deltas = encode(objects, boxes.clone(), config.box_weights, is_object);
    let rois = RoiSamples {
        rois: Rois::from_slots(boxes),
        labels: labels.reshape([n * k]),
        deltas: deltas.reshape([n * k, 4]),
        valid: sample.valid.float().reshape([n * k]),
    };
    (rois, masks)
}

/// The deltas that turn `references` into `objects`, both `[n, k, 4]`, where `is_object [n, k]`;
/// zeros elsewhere: `boxes::BoxCoder::encode` on tensors.
fn encode(
    objects: Tensor<3>,
    references: Tensor<3>,
    [wx, wy, ww, wh]: [f32; 4],
    is_object: Tensor<2, Bool>,
) -> Tensor<3> {
    let [n, k, _] = objects.dims();
    let device = objects.device();
    let no_object = is_object.bool_not().unsqueeze_dim::<3>(2);
    // Padded slots may hold boxes without area, whose logarithm is not finite.
    let sides_masked = no_object.clone().expand([n, k, 2]);
    // Both axes at once: on GPUs each operation is a launch.
    let center_and_side = |boxes: Tensor<3>| {
        let low = boxes.clone().narrow(2, 0, 2);
        let side = boxes.narrow(2, 2, 2) - low.clone();
        let side = side.mask_fill(sides_masked.clone(), 1.0);
        (low + side.clone() * 0.5, side)
    };
    let weights = |weights: [f32; 2]| {
        let data = TensorData::new(weights.to_vec(), [1, 1, 2]);
        Tensor::<3>::from_data(data, &device).expand([n, k, 2])
    };
    let (center, side) = center_and_side(references);
    let (object, object_side) = center_and_side(objects);
    let shifts = (object - center) / side.clone() * weights([wx, wy]);
    let scales = (object_side / side).log() * weights([ww, wh]);
    Tensor::cat(vec![shifts, scales], 2).mask_fill(no_object.expand([n, k, 4]), 0.0)
}

/// The rows `index [n, k]` of `values [n, b, 4]`: `[n, k, 4]`.
fn rows(values: Tensor<3>, index: Tensor<2, Int>) -> Tensor<3> {
    let [n, k] = index.dims();
    values.gather(1, index.unsqueeze_dim::<3>(2).expand([n, k, 4]))
}

fn arange(count: usize, device: &Device) -> Tensor<2, Int> {
    // Uploaded: Burn's `arange` is three launches on GPUs.
    let numbers: Vec<i32> = (0..count as i32).collect();
    Tensor::<1, Int>::from_data(TensorData::new(numbers, [count]), device).unsqueeze()
}
