//! One forward pass of training: pictures and truth in, losses out.

use super::counts::StepCounts;
use super::device::slot_losses;
use super::losses::{Losses, box_losses, mask_loss, rpn_losses};
use super::targets_host::{RoiTargets, RpnTargets, roi_targets, rpn_targets};
use crate::boxes::{Anchors, Bbox};
use crate::model::{MaskRcnn, PackedPyramid, Roi, RpnOutput, filter_proposals};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use rayon::prelude::*;

/// The losses of a batch: where the device matches and samples, by [`slot_losses`], else by
/// [`forward_losses`]. Several ranks need the counts of [`forward_losses`], and take it on every device.
pub fn step_losses(
    model: &MaskRcnn,
    batch: &Batch,
    stream: Stream,
    device: &Device,
) -> Result<Losses, ExecutionError> {
    if model.trains_on_device(device) {
        return Ok(slot_losses(model, batch, stream, device));
    }
    Ok(forward_losses(model, batch, stream, device)?.0)
}

/// Runs the model on a batch and compares it with the truth.
///
/// `stream` decides what is sampled; give every step its own. Reads the RPN's output from the device
/// once.
pub fn forward_losses(
    model: &MaskRcnn,
    batch: &Batch,
    stream: Stream,
    device: &Device,
) -> Result<(Losses, StepCounts), ExecutionError> {
    let seen = Seen::of(model, batch, device);
    let targets = Targets::draw(model, batch, &seen.output, stream)?;
    let losses = target_losses(model, batch, seen, &targets, device);
    Ok((losses, targets.counts()))
}

/// What the parts that see whole pictures make of a batch.
pub(crate) struct Seen {
    /// P2 to P6.
    pub(crate) pyramid: Vec<Tensor<4>>,
    pub(crate) output: RpnOutput,
}

impl Seen {
    pub(crate) fn of(model: &MaskRcnn, batch: &Batch, device: &Device) -> Self {
        let pyramid = model.pyramid(batch.images(device));
        let output = model.propose(&pyramid);
        Self { pyramid, output }
    }
}

/// What was sampled of a batch, and what should have been said of it.
pub(crate) struct Targets {
    rpn: Vec<RpnTargets>,
    roi: Vec<RoiTargets>,
}

impl Targets {
    /// Matches and samples; reads the RPN's output from the device once.
    pub(crate) fn draw(
        model: &MaskRcnn,
        batch: &Batch,
        output: &RpnOutput,
        stream: Stream,
    ) -> Result<Self, ExecutionError> {
        let anchors = model.anchors((batch.shape[2], batch.shape[3]), &output.grids);
        let proposals = training_proposals(model, batch, output, &anchors)?;
        let config = model.config();
        let rpn = per_image(batch, |image| {
            let stream = stream.fork(2 * batch.places[image] as u64);
            rpn_targets(
                &anchors.boxes,
                &batch.truths[image].boxes,
                &config.rpn,
                stream,
            )
        });
        let roi = per_image(batch, |image| {
            let stream = stream.fork(2 * batch.places[image] as u64 + 1);
            let slots = config.rpn.post_nms_train;
            roi_targets(
                &proposals[image],
                slots,
                &batch.truths[image],
                &config.roi,
                stream,
            )
        });
        Ok(Self { rpn, roi })
    }

    pub(crate) fn counts(&self) -> StepCounts {
        let sampled = self.rpn.iter().flat_map(|targets| &targets.sampled);
        let labels = || self.roi.iter().flat_map(|targets| &targets.labels);
        StepCounts {
            anchors: sampled.filter(|&&sampled| sampled > 0.0).count(),
            regions: labels().count(),
            objects: labels().filter(|&&label| label > 0).count(),
        }
    }
}

/// The losses of what `targets` sampled, each divided by the number of its samples.
pub(crate) fn target_losses(
    model: &MaskRcnn,
    batch: &Batch,
    seen: Seen,
    targets: &Targets,
    device: &Device,
) -> Losses {
    let counts = targets.counts();
    let (objectness, rpn_box_reg) = rpn_part(seen.output, &targets.rpn, counts.anchors, device);
    let packed = model.pack(&seen.pyramid);
    let (classifier, box_reg) = box_part(model, &packed, &targets.roi, device);
    let mask = mask_part(model, &packed, &targets.roi, batch, device);
    Losses {
        classifier,
        box_reg,
        mask,
        objectness,
        rpn_box_reg,
    }
}

fn per_image<T: Send>(batch: &Batch, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    (0..batch.truths.len()).into_par_iter().map(work).collect()
}

fn training_proposals(
    model: &MaskRcnn,
    batch: &Batch,
    output: &RpnOutput,
    anchors: &Anchors,
) -> Result<Vec<Vec<Bbox>>, ExecutionError> {
    let rpn = &model.config().rpn;
    let read = |data: TensorData| -> Vec<f32> { data.iter::<f32>().collect() };
    let objectness = read(untracked(output.objectness.clone()).try_into_data()?);
    let deltas = read(untracked(output.deltas.clone()).try_into_data()?);
    let count = anchors.boxes.len();
    let limits = [rpn.pre_nms_train, rpn.post_nms_train];
    Ok(per_image(batch, |i| {
        let objectness = &objectness[i * count..][..count];
        let deltas = &deltas[i * count * 4..][..count * 4];
        let kept = filter_proposals(objectness, deltas, anchors, batch.sizes[i], rpn, limits);
        kept.into_iter().map(|proposal| proposal.bbox).collect()
    }))
}

/// Without its graph; validation has none.
pub(crate) fn untracked<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() {
        tensor.inner()
    } else {
        tensor
    }
}

fn rpn_part(
    output: RpnOutput,
    targets: &[RpnTargets],
    count: usize,
    device: &Device,
) -> (Tensor<1>, Tensor<1>) {
    let [images, anchors] = output.objectness.dims();
    let rows = |of: fn(&RpnTargets) -> &Vec<f32>| {
        let values: Vec<f32> = targets.iter().flat_map(|t| of(t).iter().copied()).collect();
        Tensor::<2>::from_data(TensorData::new(values, [images, anchors]), device)
    };
    let deltas: Vec<f32> = targets
        .iter()
        .flat_map(|t| t.deltas.iter().copied())
        .collect();
    let deltas = Tensor::from_data(TensorData::new(deltas, [images, anchors, 4]), device);
    let (labels, sampled) = (rows(|t| &t.labels), rows(|t| &t.sampled));
    let scores = [output.objectness, labels, sampled, rows(|t| &t.objects)];
    rpn_losses(scores, [output.deltas, deltas], count)
}

/// A region without weight, for batches that sampled none: every head still runs and every parameter
/// still gets a gradient.
const NO_REGION: Roi = (0, [0.0, 0.0, 1.0, 1.0]);

fn box_part(
    model: &MaskRcnn,
    packed: &PackedPyramid,
    targets: &[RoiTargets],
    device: &Device,
) -> (Tensor<1>, Tensor<1>) {
    let mut rois: Vec<Roi> = Vec::new();
    let mut labels = Vec::new();
    let mut deltas: Vec<f32> = Vec::new();
    for (image, targets) in targets.iter().enumerate() {
        rois.extend(targets.rois.iter().map(|&roi| (image, roi)));
        labels.extend(&targets.labels);
        deltas.extend(targets.deltas.iter().flatten());
    }
    let count = rois.len();
    let mut weights = vec![1.0f32; count];
    if count == 0 {
        rois.push(NO_REGION);
        labels.push(0);
        deltas.extend([0.0; 4]);
        weights.push(0.0);
    }
    let (logits, predicted) = model.boxes(packed, &rois);
    let targets = Tensor::from_data(TensorData::new(deltas, [rois.len(), 4]), device);
    let weights = Tensor::from_floats(weights.as_slice(), device);
    box_losses(logits, predicted, &labels, targets, weights, count)
}

fn mask_part(
    model: &MaskRcnn,
    packed: &PackedPyramid,
    targets: &[RoiTargets],
    batch: &Batch,
    device: &Device,
) -> Tensor<1> {
    let side = model.config().mask_head.pool * 2;
    let per_image = per_image(batch, |i| targets[i].mask_targets(&batch.truths[i], side));
    let mut rois: Vec<Roi> = Vec::new();
    let mut labels = Vec::new();
    let mut masks: Vec<f32> = Vec::new();
    for (image, objects) in per_image.into_iter().enumerate() {
        for (roi, label, mask) in objects {
            rois.push((image, roi));
            labels.push(label);
            masks.extend(mask);
        }
    }
    let count = rois.len();
    if count == 0 {
        rois.push(NO_REGION);
        labels.push(0);
        masks.resize(side * side, 0.0);
    }
    let logits = model.masks(packed, &rois);
    let masks = Tensor::from_data(TensorData::new(masks, [rois.len(), side * side]), device);
    mask_loss(logits, &labels, masks, count)
}
