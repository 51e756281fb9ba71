//! What a training step on GPUs samples, and its targets, in fixed slots: all on the device, without
//! autodiff.

use super::host::untracked;
use crate::boxes::Matcher;
use crate::config::{RoiConfig, RpnConfig};
use crate::model::{
    AnchorSlots, BoxSlots, MaskRcnn, RpnOutput, filter_proposal_slots, picture_sizes,
};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use crate::train::input::masks::bit_masks;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use mrcnn_kernels::{BACKGROUND, IGNORED, match_boxes, sampling_scores, top_k_segments};

/// What was sampled of a batch, and what should have been said of it; without autodiff.
pub(crate) struct Samples {
    pub(crate) rpn: AnchorTargets,
    pub(crate) regions: Regions,
    pub(crate) truth: TruthSlots,
}

impl Samples {
    /// Matches and samples; reads nothing.
    pub(crate) fn draw(
        model: &MaskRcnn,
        batch: &Batch,
        output: &RpnOutput,
        stream: Stream,
    ) -> Self {
        let plain = output.objectness.device().inner();
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
            untracked(output.objectness.clone()),
            untracked(output.deltas.clone()),
            &anchors,
            picture_sizes(&batch.sizes, &plain),
            rpn,
            [rpn.pre_nms_train, rpn.post_nms_train],
        );
        Self {
            rpn: sample_anchors(anchors.boxes, &truth, &seeds(0), rpn),
            regions: sample_regions(proposals, &truth, &seeds(1), &config.roi),
            truth,
        }
    }

    /// Sampled anchors, sampled regions, objects among the regions, `[3]`: [`crate::train::StepCounts`] on the
    /// device.
    pub(crate) fn counts(&self) -> Tensor<1> {
        let count = |which: Tensor<2, Bool>| which.float().sum();
        let objects = self.regions.sample.is_object();
        let objects = objects.narrow(1, 0, self.regions.quota);
        Tensor::cat(
            vec![
                count(self.rpn.sample.filled.clone()),
                count(self.regions.sample.filled.clone()),
                count(objects),
            ],
            0,
        )
    }
}

/// The ground truth of a batch, without autodiff; as many slots a picture as a power of two, so that
/// few shapes occur.
pub(crate) struct TruthSlots {
    /// `[n, t, 4]`, pixels of the resized pictures.
    pub(crate) boxes: Tensor<3>,
    /// Classes, `[n, t]`.
    pub(crate) labels: Tensor<2, Int>,
    /// How many slots of a picture are filled, `[n]`.
    counts: Tensor<1, Int>,
    /// See [`mask_targets`].
    pub(crate) masks: (Tensor<3, Int>, Tensor<1, Int>),
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
pub(crate) struct Sample {
    /// Index of the candidate; 0 in empty slots, `[n, k]`.
    pub(crate) candidates: Tensor<2, Int>,
    /// Slot of the object's ground truth, negative for background, `[n, k]`.
    pub(crate) matched: Tensor<2, Int>,
    /// `[n, k]`.
    pub(crate) filled: Tensor<2, Bool>,
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

    pub(crate) fn is_object(&self) -> Tensor<2, Bool> {
        self.matched.clone().greater_equal_elem(0)
    }
}

/// Sampled anchors and their targets, without autodiff.
pub(crate) struct AnchorTargets {
    /// Box deltas; zeros for background, `[n, k, 4]`.
    pub(crate) deltas: Tensor<3>,
    pub(crate) sample: Sample,
}

fn sample_anchors(
    anchors: Tensor<3>,
    truth: &TruthSlots,
    seeds: &[u64],
    rpn: &RpnConfig,
) -> AnchorTargets {
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
    let ([n, ..], [_, total, _]) = (sample.candidates.dims(), anchors.dims());
    let references = rows(anchors.expand([n, total, 4]), sample.candidates.clone());
    let objects = truth.boxes_of(sample.matched.clone());
    AnchorTargets {
        deltas: encode(objects, references, [1.0; 4], sample.is_object()),
        sample,
    }
}

/// Sampled regions and their targets, without autodiff.
pub(crate) struct Regions {
    /// `[n, k, 4]`.
    pub(crate) boxes: Tensor<3>,
    /// Class, 0 for background, `[n, k]`.
    pub(crate) labels: Tensor<2, Int>,
    /// Box deltas; zeros for background, `[n, k, 4]`.
    pub(crate) deltas: Tensor<3>,
    pub(crate) sample: Sample,
    /// Slots that may hold objects, the first ones.
    pub(crate) quota: usize,
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
pub(crate) fn rows(values: Tensor<3>, index: Tensor<2, Int>) -> Tensor<3> {
    let [n, k] = index.dims();
    values.gather(1, index.unsqueeze_dim::<3>(2).expand([n, k, 4]))
}

fn arange(count: usize, device: &Device) -> Tensor<2, Int> {
    Tensor::<1, Int>::arange(0..count as i64, device).unsqueeze()
}
