//! Training samples of a batch and their targets: anchors and proposals are matched with the ground truth and sampled.
//!
//! Everything is computed on the device in a fixed number of slots, without reading from it. On the CPU, where the host
//! can read without waiting, padded slots are removed at the end, so that the heads compute no more than they need.

use super::features::StepFeatures;
use super::inputs::{GroundTruthSlots, SampleInputs};
use super::samples::{AnchorSamples, MaskSamples, RoiSamples, Samples};
use crate::config::{ModelConfig, RoiConfig, RpnConfig};
use crate::model::{BoxSlots, MaskRcnn, Rois, RpnOutput, filter_proposals, selection_device};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::tensor::{ExecutionError, Int, Tensor};
use mrcnn_kernels::{
    Choice, MatchThresholds, RoiTargets, choose_samples, encode_boxes, mask_targets, match_boxes,
    match_proposals, object_slots, roi_targets, sampling_scores, top_k_segments,
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
    let home = step.rpn.objectness.device();
    let device = selection_device(&home, &selection_limits(model.config()))?;
    let output = pollster::block_on(step.rpn.clone().moved(&device))?;
    let inputs = SampleInputs::new(batch, stream, &device);
    let samples = sample_inputs(model, &inputs, output, step.padded);
    Ok(samples.dense()?.on(&home))
}

/// Numbers of boxes that a training step selects at a time.
pub(crate) fn selection_limits(config: &ModelConfig) -> [usize; 4] {
    let ModelConfig { rpn, roi, .. } = config;
    [
        rpn.pre_nms_train,
        rpn.post_nms_train,
        rpn.batch_per_image,
        roi.batch_per_image,
    ]
}

/// [`sample`] with padded slots, on the device of the features; nothing is read.
pub fn sample_in_slots(
    model: &MaskRcnn,
    batch: &Batch,
    step: &StepFeatures,
    stream: Stream,
) -> Samples {
    let output = step.rpn.clone();
    let inputs = SampleInputs::new(batch, stream, &output.objectness.device());
    sample_inputs(model, &inputs, output, step.padded)
}

/// Samples in slots, from the RPN's `output` for images padded to `(height, width)`. Both are on one device, which
/// computes everything.
pub(crate) fn sample_inputs(
    model: &MaskRcnn,
    inputs: &SampleInputs,
    output: RpnOutput,
    padded: (usize, usize),
) -> Samples {
    let ModelConfig {
        rpn,
        roi,
        mask_head,
        ..
    } = model.config();
    let device = output.objectness.device();
    let SampleInputs { gt, seeds, sizes } = inputs;
    let anchors = model.rpn.anchors(padded, &output.grids, rpn, &device);
    let proposals = filter_proposals(
        output.objectness,
        output.deltas,
        &anchors,
        sizes.clone(),
        rpn,
        [rpn.pre_nms_train, rpn.post_nms_train],
    );
    let (rois, masks) = sample_rois(proposals, gt, seeds.rois.clone(), roi, mask_head.pool * 2);
    Samples {
        anchors: sample_anchors(anchors.boxes, gt, seeds.anchors.clone(), rpn),
        rois,
        masks,
    }
}

/// Samples `count` of `matches [n, b]`, at most `quota` objects and background for the rest. Whether a candidate is
/// sampled is a function of the seed, its index and the other candidates, the same on every device.
fn choose(matches: Tensor<2, Int>, seeds: Tensor<2, Int>, count: usize, quota: usize) -> Choice {
    let [_, total] = matches.dims();
    let scores = sampling_scores(matches.clone(), seeds);
    let (scores, best) = top_k_segments(scores, &[0..total, total..2 * total], count);
    choose_samples(scores, best, matches, quota)
}

fn sample_anchors(
    anchors: Tensor<3>,
    gt: &GroundTruthSlots,
    seeds: Tensor<2, Int>,
    config: &RpnConfig,
) -> AnchorSamples {
    let thresholds = MatchThresholds {
        fg_iou: config.fg_iou,
        bg_iou: config.bg_iou,
        allow_low_quality: true,
    };
    let (objects, counts) = (gt.boxes.clone(), gt.counts.clone());
    let matches = match_boxes(anchors.clone(), objects.clone(), counts, &thresholds);
    let count = config.batch_per_image;
    let quota = (count as f64 * config.positive_fraction) as usize;
    let sample = choose(matches, seeds, count, quota);
    AnchorSamples {
        deltas: encode_boxes(objects, anchors, &sample, [1.0; 4]),
        index: sample.candidates,
        labels: sample.is_object,
        valid: sample.valid,
    }
}

/// Samples RoIs from the proposals and the ground truth, which is added to them as in torchvision. `side` is the side
/// of the mask targets, in cells.
fn sample_rois(
    proposals: BoxSlots,
    gt: &GroundTruthSlots,
    seeds: Tensor<2, Int>,
    config: &RoiConfig,
    side: usize,
) -> (RoiSamples, MaskSamples) {
    let BoxSlots { boxes, scores } = proposals;
    let thresholds = MatchThresholds {
        fg_iou: config.fg_iou,
        bg_iou: config.bg_iou,
        allow_low_quality: false,
    };
    let (objects, counts) = (gt.boxes.clone(), gt.counts.clone());
    let matches = match_proposals(boxes.clone(), scores, objects.clone(), counts, &thresholds);
    let count = config.batch_per_image;
    let quota = (count as f64 * config.positive_fraction) as usize;
    let sample = choose(matches, seeds, count, quota);
    let targets = roi_targets(
        boxes,
        objects,
        gt.labels.clone(),
        &sample,
        config.box_weights,
    );
    let RoiTargets {
        boxes,
        deltas,
        labels,
    } = targets;
    let [n, k] = labels.dims();
    let rois = Rois::from_slots(boxes.clone());
    let masks = {
        // Objects come first: the mask head needs no slots beyond their quota.
        let quota = quota.max(1);
        let objects = object_slots(boxes, labels.clone(), &sample, quota);
        let rois = Rois::from_slots(objects.boxes.clone());
        let targets = mask_targets(objects.boxes, objects.matched, gt.masks.clone(), side);
        MaskSamples {
            rois,
            labels: objects.labels.reshape([n * quota]),
            targets: targets.reshape([n * quota, side * side]),
            valid: objects.is_object.reshape([n * quota]),
        }
    };
    let rois = RoiSamples {
        rois,
        labels: labels.reshape([n * k]),
        deltas: deltas.reshape([n * k, 4]),
        valid: sample.valid.reshape([n * k]),
    };
    (rois, masks)
}
