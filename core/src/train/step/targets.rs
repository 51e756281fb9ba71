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
    Choice, IGNORED, MatchThresholds, choose_samples, encode_boxes, mask_targets, match_boxes,
    sampling_scores, top_k_segments,
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

/// Samples `count` of `matches [n, b]`, at most `quota` objects and background for the rest. Whether a candidate is
/// sampled is a function of the seed, its index and the other candidates, the same on every device.
fn choose(matches: Tensor<2, Int>, seeds: &[u64], count: usize, quota: usize) -> Choice {
    let ([_, total], device) = (matches.dims(), matches.device());
    let scores = sampling_scores(matches.clone(), seeds, &device);
    let (scores, best) = top_k_segments(scores, &[0..total, total..2 * total], count);
    choose_samples(scores, best, matches, quota)
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
    let sample = choose(matches, seeds, count, quota);
    let ([n, ..], [_, total, _]) = (sample.candidates.dims(), anchors.dims());
    let references = rows(anchors.expand([n, total, 4]), sample.candidates.clone());
    let objects = gt.boxes_of(sample.matched.clone());
    AnchorSamples {
        index: sample.candidates,
        labels: sample.is_object,
        deltas: encode_boxes(objects, references, sample.matched, [1.0; 4]),
        valid: sample.valid,
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
    let sample = choose(matches, seeds, count, quota);
    let boxes = rows(candidates, sample.candidates.clone());
    let matched = sample.matched;
    let labels = gt.labels.clone();
    let labels = labels.gather(1, matched.clone().clamp_min(0));
    let labels = labels.mask_fill(matched.clone().lower_elem(0), 0);
    let [n, k, _] = boxes.dims();
    let all = Rois::from_slots(boxes.clone());
    let masks = {
        // Objects come first: the mask head needs no slots beyond their quota.
        let quota = quota.max(1);
        let boxes = boxes.clone().narrow(1, 0, quota);
        let matched = matched.clone().narrow(1, 0, quota);
        let targets = mask_targets(boxes, matched, gt.masks.clone(), side);
        let is_object = sample.is_object.narrow(1, 0, quota);
        MaskSamples {
            rois: all.first_of_images(n, quota),
            labels: labels.clone().narrow(1, 0, quota).reshape([n * quota]),
            targets: targets.reshape([n * quota, side * side]),
            valid: is_object.reshape([n * quota]),
        }
    };
    let objects = gt.boxes_of(matched.clone());
    let deltas = encode_boxes(objects, boxes, matched, config.box_weights);
    let rois = RoiSamples {
        rois: all,
        labels: labels.reshape([n * k]),
        deltas: deltas.reshape([n * k, 4]),
        valid: sample.valid.reshape([n * k]),
    };
    (rois, masks)
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
