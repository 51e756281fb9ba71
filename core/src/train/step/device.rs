//! The training step on GPUs: matching, sampling and targets in fixed slots, with nothing read.
//!
//! The host's version, [`crate::train::forward_losses`], is its oracle and what the processor runs. Both
//! draw the same samples: a candidate's chance is a function of seed and index alone.

use super::host::Seen;
use super::losses::{Losses, bce_with_logits, smooth_l1};
use super::targets_device::{AnchorTargets, Regions, Samples, TruthSlots, rows};
use crate::model::{MaskRcnn, PackedPyramid, RpnOutput};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use mrcnn_kernels::mask_targets;

/// Runs the model on a batch and compares it with the truth, all on the device.
///
/// `stream` decides what is sampled. The model's limits must fit
/// [`MaskRcnn::trains_on_device`].
pub fn slot_losses(model: &MaskRcnn, batch: &Batch, stream: Stream, device: &Device) -> Losses {
    let seen = Seen::of(model, batch, device);
    let samples = Samples::draw(model, batch, &seen.output, stream);
    sample_losses(model, seen, &samples)
}

/// The losses of what was sampled, each divided by the number of its samples.
pub(crate) fn sample_losses(model: &MaskRcnn, seen: Seen, samples: &Samples) -> Losses {
    let (objectness, rpn_box_reg) = rpn_part(seen.output, &samples.rpn);
    let packed = model.pack(&seen.pyramid);
    let (classifier, box_reg) = box_part(model, &packed, &samples.regions);
    let mask = mask_part(model, &packed, &samples.regions, &samples.truth);
    Losses {
        classifier,
        box_reg,
        mask,
        objectness,
        rpn_box_reg,
    }
}

fn rpn_part(output: RpnOutput, targets: &AnchorTargets) -> (Tensor<1>, Tensor<1>) {
    let sample = &targets.sample;
    let index = Tensor::from_inner(sample.candidates.clone());
    let objectness = output.objectness.gather(1, index.clone());
    let difference = rows(output.deltas, index) - Tensor::from_inner(targets.deltas.clone());
    let is_object = Tensor::<2>::from_inner(sample.is_object().float());
    let filled = Tensor::<2>::from_inner(sample.filled.clone().float());
    let drawn = filled.clone().sum().clamp_min(1.0);
    let objectness = bce_with_logits(objectness, is_object.clone()) * filled;
    let box_reg = smooth_l1(difference * is_object.unsqueeze_dim::<3>(2));
    (objectness.sum() / drawn.clone(), box_reg.sum() / drawn)
}

fn box_part(model: &MaskRcnn, packed: &PackedPyramid, regions: &Regions) -> (Tensor<1>, Tensor<1>) {
    let [n, k, _] = regions.boxes.dims();
    let (logits, deltas) = model.boxes_of_slots(packed, regions.boxes.clone());
    let classes = logits.dims()[1];
    let labels = regions.labels.clone().reshape([n * k, 1]);
    let filled = regions.sample.filled.clone().float().reshape([n * k]);
    let filled = Tensor::<1>::from_inner(filled);
    let drawn = filled.clone().sum().clamp_min(1.0);
    let chosen = log_softmax(logits, 1).gather(1, Tensor::from_inner(labels.clone()));
    let classifier = (chosen.reshape([n * k]).neg() * filled).sum() / drawn.clone();

    let class = labels.unsqueeze_dim::<3>(2).expand([n * k, 1, 4]);
    let deltas = deltas.reshape([n * k, classes, 4]);
    let predicted = deltas.gather(1, Tensor::from_inner(class));
    let targets = regions.deltas.clone().reshape([n * k, 1, 4]);
    let is_object = regions.sample.is_object().float().reshape([n * k, 1, 1]);
    let difference = (predicted - Tensor::from_inner(targets)) * Tensor::<3>::from_inner(is_object);
    (classifier, smooth_l1(difference).sum() / drawn)
}

fn mask_part(
    model: &MaskRcnn,
    packed: &PackedPyramid,
    regions: &Regions,
    truth: &TruthSlots,
) -> Tensor<1> {
    let side = model.config().mask_head.pool * 2;
    let cells = side * side;
    let quota = regions.quota;
    let [n, ..] = regions.boxes.dims();
    let boxes = regions.boxes.clone().narrow(1, 0, quota);
    let matched = regions.sample.matched.clone().narrow(1, 0, quota);
    let is_object = matched.clone().greater_equal_elem(0).float();
    let is_object = Tensor::<2>::from_inner(is_object.reshape([n * quota, 1]));
    let targets = mask_targets(boxes.clone(), matched, truth.masks.clone(), side);
    let targets = Tensor::<2>::from_inner(targets.reshape([n * quota, cells]));

    let logits = model.masks_of_slots(packed, boxes);
    let classes = logits.dims()[1];
    let labels = regions.labels.clone().narrow(1, 0, quota);
    let labels = labels
        .reshape([n * quota, 1, 1])
        .expand([n * quota, 1, cells]);
    let logits = logits.reshape([n * quota, classes, cells]);
    let chosen = logits.gather(1, Tensor::from_inner(labels));
    let loss = bce_with_logits(chosen.reshape([n * quota, cells]), targets);
    let objects = is_object.clone().sum().clamp_min(1.0);
    (loss * is_object).sum() / (objects * cells as f64)
}
