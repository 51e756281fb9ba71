//! The training step on GPUs: matching, sampling and targets in fixed slots, with nothing read.
//!
//! The host's version, [`super::forward_losses`], is its oracle and what the processor runs. Both
//! draw the same samples: a candidate's chance is a function of seed and index alone.

use super::batch::Batch;
use super::losses::{Losses, bce_with_logits, smooth_l1};
use super::masks::bit_masks;
use crate::boxes::Matcher;
use crate::config::{ModelConfig, RoiConfig};
use crate::model::{
    AnchorSlots, BoxSlots, MaskRcnn, PackedPyramid, RpnOutput, filter_proposal_slots, picture_sizes,
};
use crate::random::Stream;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use mrcnn_kernels::{
    BACKGROUND, IGNORED, mask_targets, match_boxes, sampling_scores, top_k_segments,
};

/// Runs the model on a batch and compares it with the truth, all on the device.
///
/// `stream` decides what is sampled. The model's limits must fit
/// [`MaskRcnn::trains_on_device`].
pub fn slot_losses(model: &MaskRcnn, batch: &Batch, stream: Stream, device: &Device) -> Losses {
    let pyramid = model.pyramid(batch.images(device));
    let output = model.propose(&pyramid);
    let plain = device.clone().inner();
    let truth = TruthSlots::new(batch, &plain);
    let seeds = |part: u64| -> Vec<u64> {
        let places = batch.places.iter().map(|&place| place as u64);
        let seed = |place| stream.fork(2 * place + part).seed();
        places.map(seed).collect()
    };
    let config = model.config();
    let rpn = &config.rpn;
    let padded = (batch.shape[2], batch.shape[3]);
    let anchors = AnchorSlots::new(padded, &output.grids, rpn, &plain);
    let proposals = filter_proposal_slots(
        output.objectness.clone().inner(),
        output.deltas.clone().inner(),
        &anchors,
        picture_sizes(&batch.sizes, &plain),
        rpn,
        [rpn.pre_nms_train, rpn.post_nms_train],
    );
    let (objectness, rpn_box_reg) = rpn_part(output, anchors.boxes, &truth, &seeds(0), config);
    let regions = sample_regions(proposals, &truth, &seeds(1), &config.roi);
    let packed = model.pack(&pyramid);
    let (classifier, box_reg) = box_part(model, &packed, &regions);
    let mask = mask_part(model, &packed, &regions, &truth);
    Losses {
        classifier,
        box_reg,
        mask,
        objectness,
        rpn_box_reg,
    }
}

/// The ground truth of a batch, without autodiff; as many slots a picture as a power of two, so that
/// few shapes occur.
struct TruthSlots {
    /// `[n, t, 4]`, pixels of the resized pictures.
    boxes: Tensor<3>,
    /// Classes, `[n, t]`.
    labels: Tensor<2, Int>,
    /// How many slots of a picture are filled, `[n]`.
    counts: Tensor<1, Int>,
    /// See [`mask_targets`].
    masks: (Tensor<3, Int>, Tensor<1, Int>),
}

/// Slots for the ground truth of a picture at least.
const LEAST_SLOTS: usize = 16;

impl TruthSlots {
    fn new(batch: &Batch, device: &Device) -> Self {
        let n = batch.truths.len();
        let most = batch.truths.iter().map(|truth| truth.boxes.len()).max();
        let slots = most.unwrap_or(0).next_power_of_two().max(LEAST_SLOTS);
        let mut boxes = vec![[0.0f32; 4]; n * slots];
        let mut labels = vec![0i32; n * slots];
        for (picture, truth) in batch.truths.iter().enumerate() {
            for (slot, (bbox, &label)) in truth.boxes.iter().zip(&truth.labels).enumerate() {
                boxes[picture * slots + slot] = *bbox;
                labels[picture * slots + slot] = label as i32;
            }
        }
        let counts: Vec<i32> = batch.truths.iter().map(|t| t.boxes.len() as i32).collect();
        let masks = batch.truths.iter().map(|truth| truth.masks.as_slice());
        let boxes = TensorData::new(boxes.into_flattened(), [n, slots, 4]);
        Self {
            boxes: Tensor::from_data(boxes, device),
            labels: Tensor::from_data(TensorData::new(labels, [n, slots]), device),
            counts: Tensor::from_data(TensorData::new(counts, [n]), device),
            masks: bit_masks(masks, slots).upload(n, device),
        }
    }

    /// Whether a slot is filled, `[n, t]`.
    fn filled(&self) -> Tensor<2, Bool> {
        let [n, slots] = self.labels.dims();
        let places = arange(slots, &self.labels.device()).expand([n, slots]);
        places.lower(self.counts.clone().unsqueeze_dim::<2>(1).expand([n, slots]))
    }

    /// The boxes that `matched [n, k]` names; of negative ones the first.
    fn boxes_of(&self, matched: Tensor<2, Int>) -> Tensor<3> {
        rows(self.boxes.clone(), matched.clamp_min(0))
    }
}

/// The index of no candidate, also after a row's length is taken from it or added.
const NONE: i64 = -(1 << 30);

/// Candidates drawn at random in slots, objects first.
struct Sample {
    /// Index of the candidate; 0 in empty slots, `[n, k]`.
    candidates: Tensor<2, Int>,
    /// Slot of the object's ground truth, negative for background, `[n, k]`.
    matched: Tensor<2, Int>,
    /// `[n, k]`.
    filled: Tensor<2, Bool>,
}

impl Sample {
    /// Draws `count` of `matches [n, b]`, at most `quota` of them objects, the rest background: the
    /// slots' version of [`crate::boxes::sample_balanced`].
    fn draw(matches: Tensor<2, Int>, seeds: &[u64], count: usize, quota: usize) -> Self {
        let [n, total] = matches.dims();
        let device = matches.device();
        let scores = sampling_scores(matches.clone(), seeds, &device);
        let (scores, best) = top_k_segments(scores, &[0..total, total..2 * total], count);
        // Where there are fewer than `count`, candidates of the other kinds fill up.
        let best = best.mask_fill(scores.equal_elem(f32::NEG_INFINITY), NONE);
        let kind = |kind: usize| best.clone().narrow(1, kind, 1).reshape([n, count]);
        let (objects, background) = (kind(0), kind(1) - total as i64);
        let found = objects.clone().greater_equal_elem(0).int().sum_dim(1);
        let found = found.clamp_max(quota as i64).expand([n, count]);
        let slots = arange(count, &device).expand([n, count]);
        let is_object = slots.clone().lower(found.clone());
        let background = background.gather(1, (slots - found).clamp_min(0));
        let chosen = background.mask_where(is_object, objects);
        let filled = chosen.clone().greater_equal_elem(0);
        let candidates = chosen.clamp_min(0);
        let matched = matches.gather(1, candidates.clone());
        Self {
            candidates,
            matched: matched.mask_fill(filled.clone().bool_not(), BACKGROUND),
            filled,
        }
    }

    fn is_object(&self) -> Tensor<2, Bool> {
        self.matched.clone().greater_equal_elem(0)
    }
}

fn rpn_part(
    output: RpnOutput,
    anchors: Tensor<3>,
    truth: &TruthSlots,
    seeds: &[u64],
    config: &ModelConfig,
) -> (Tensor<1>, Tensor<1>) {
    let rpn = &config.rpn;
    let matcher = Matcher {
        fg_iou: rpn.fg_iou,
        bg_iou: rpn.bg_iou,
        allow_low_quality: true,
    };
    let matches = match_boxes(
        anchors.clone(),
        truth.boxes.clone(),
        truth.counts.clone(),
        &matcher.thresholds(),
    );
    let count = rpn.batch_per_image;
    let quota = (count as f64 * rpn.positive_fraction) as usize;
    let sample = Sample::draw(matches, seeds, count, quota);
    let is_object = sample.is_object();
    let [n, total, _] = output.deltas.dims();
    let references = rows(anchors.expand([n, total, 4]), sample.candidates.clone());
    let objects = truth.boxes_of(sample.matched.clone());
    let targets = encode(objects, references, [1.0; 4], is_object.clone());

    let index = Tensor::from_inner(sample.candidates);
    let objectness = output.objectness.gather(1, index.clone());
    let difference = rows(output.deltas, index) - Tensor::from_inner(targets);
    let is_object = Tensor::<2>::from_inner(is_object.float());
    let filled = Tensor::<2>::from_inner(sample.filled.float());
    let drawn = filled.clone().sum().clamp_min(1.0);
    let objectness = bce_with_logits(objectness, is_object.clone()) * filled;
    let box_reg = smooth_l1(difference * is_object.unsqueeze_dim::<3>(2));
    (objectness.sum() / drawn.clone(), box_reg.sum() / drawn)
}

/// Sampled regions and their targets, without autodiff.
struct Regions {
    /// `[n, k, 4]`.
    boxes: Tensor<3>,
    /// Class, 0 for background, `[n, k]`.
    labels: Tensor<2, Int>,
    /// Box deltas; zeros for background, `[n, k, 4]`.
    deltas: Tensor<3>,
    sample: Sample,
    /// Slots that may hold objects, the first ones.
    quota: usize,
}

fn sample_regions(
    proposals: BoxSlots,
    truth: &TruthSlots,
    seeds: &[u64],
    config: &RoiConfig,
) -> Regions {
    let matcher = Matcher {
        fg_iou: config.fg_iou,
        bg_iou: config.bg_iou,
        allow_low_quality: false,
    };
    let is_proposal = proposals.scores.greater_elem(f32::NEG_INFINITY);
    let candidates = Tensor::cat(vec![proposals.boxes, truth.boxes.clone()], 1);
    let is_candidate = Tensor::cat(vec![is_proposal, truth.filled()], 1);
    let matches = match_boxes(
        candidates.clone(),
        truth.boxes.clone(),
        truth.counts.clone(),
        &matcher.thresholds(),
    );
    let matches = matches.mask_fill(is_candidate.bool_not(), IGNORED);
    let count = config.batch_per_image;
    let quota = (count as f64 * config.positive_fraction) as usize;
    let sample = Sample::draw(matches, seeds, count, quota);
    let is_object = sample.is_object();
    let boxes = rows(candidates, sample.candidates.clone());
    let objects = truth.boxes_of(sample.matched.clone());
    let labels = truth.labels.clone();
    let labels = labels.gather(1, sample.matched.clone().clamp_min(0));
    Regions {
        labels: labels.mask_fill(is_object.clone().bool_not(), 0),
        deltas: encode(objects, boxes.clone(), config.box_weights, is_object),
        boxes,
        sample,
        quota: quota.max(1),
    }
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

/// The deltas that turn `references` into `objects`, both `[n, k, 4]`, where `is_object [n, k]`;
/// zeros elsewhere: the slots' version of [`crate::boxes::BoxCoder::encode`].
fn encode(
    objects: Tensor<3>,
    references: Tensor<3>,
    [wx, wy, ww, wh]: [f32; 4],
    is_object: Tensor<2, Bool>,
) -> Tensor<3> {
    let is_object = is_object.unsqueeze_dim::<3>(2);
    // Empty slots may hold boxes without area, of which no logarithm is taken.
    let centre_and_side = |boxes: Tensor<3>, axis: usize| {
        let corner = |i: usize| boxes.clone().narrow(2, i, 1);
        let low = corner(axis);
        let side = corner(axis + 2) - low.clone();
        let side = side.mask_fill(is_object.clone().bool_not(), 1.0);
        (low + side.clone() * 0.5, side)
    };
    let deltas = [(0, wx, ww), (1, wy, wh)].map(|(axis, weight, log_weight)| {
        let (centre, side) = centre_and_side(references.clone(), axis);
        let (object, object_side) = centre_and_side(objects.clone(), axis);
        (
            (object - centre) / side.clone() * weight,
            (object_side / side).log() * log_weight,
        )
    });
    let [(dx, dw), (dy, dh)] = deltas;
    let deltas = Tensor::cat(vec![dx, dy, dw, dh], 2);
    let [n, k, _] = deltas.dims();
    deltas.mask_fill(is_object.bool_not().expand([n, k, 4]), 0.0)
}

/// The rows `index [n, k]` of `values [n, b, 4]`: `[n, k, 4]`.
fn rows(values: Tensor<3>, index: Tensor<2, Int>) -> Tensor<3> {
    let [n, k] = index.dims();
    values.gather(1, index.unsqueeze_dim::<3>(2).expand([n, k, 4]))
}

fn arange(count: usize, device: &Device) -> Tensor<2, Int> {
    Tensor::<1, Int>::arange(0..count as i64, device).unsqueeze()
}
