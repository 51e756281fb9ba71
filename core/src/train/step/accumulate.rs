//! A step's batch in micro-batches, one after the other: the update of the whole batch in the memory of a
//! part of it.
//!
//! Losses are divided by the samples of the whole step, which are known only when every micro-batch has
//! been sampled. So all but the last go through the backbone and the RPN once more, before, without a
//! graph; then each has its forward and backward pass, and its graph is gone before the next one's.

use super::counts::StepCounts;
use super::device::sample_losses;
use super::gradients::ParamGradients;
use super::host::{Seen, Targets, target_losses};
use super::losses::{Losses, read_losses};
use super::targets_device::Samples;
use crate::model::{MaskRcnn, RpnOutput};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError, Tensor};

/// The five losses (in the order of [`Losses::NAMES`]) of `batch` and their gradients, by
/// `count` micro-batches of equal size, the first ones of one picture more where it does not divide. Until
/// the end, gradients are `scale` times as large.
///
/// Both are those of the whole batch but for the order of sums in f32. What is sampled is the same where
/// no two proposals are so alike that another order of sums changes their places. `model` must have no
/// batch norm that learns: its statistics would be a micro-batch's.
pub fn accumulated_losses_and_gradients(
    model: &MaskRcnn,
    batch: Batch,
    count: usize,
    stream: Stream,
    device: &Device,
    scale: f64,
) -> Result<([f32; 5], ParamGradients), ExecutionError> {
    let parts = micro_batches(batch, count);
    let (values, gradients) = match model.trains_on_device(device) {
        true => slot_parts(model, &parts, stream, device, scale)?,
        false => host_parts(model, &parts, stream, device, scale, |counts| {
            Ok::<_, ExecutionError>((counts, 1.0))
        })?,
    };
    Ok((read_losses(values)?, gradients.unscaled(scale)))
}

/// Cuts a batch; padding and places stay. None of no picture.
pub(crate) fn micro_batches(batch: Batch, count: usize) -> Vec<Batch> {
    if batch.image_ids.is_empty() {
        return Vec::new();
    }
    let mut places = batch.places.clone().into_iter();
    let mut parts = batch.split(count);
    for part in &mut parts {
        part.places = places.by_ref().take(part.places.len()).collect();
    }
    parts
}

/// Losses `[5]` and gradients (times `scale`), matched and sampled on the host. `whole` is told the samples of all
/// `parts` and says how many the step has, and by what its losses are multiplied besides.
pub(crate) fn host_parts<E: From<ExecutionError>>(
    model: &MaskRcnn,
    parts: &[Batch],
    stream: Stream,
    device: &Device,
    scale: f64,
    whole: impl FnOnce(StepCounts) -> Result<(StepCounts, f64), E>,
) -> Result<(Tensor<1>, ParamGradients), E> {
    sum_of_parts(
        model,
        parts,
        device,
        scale,
        |part, output| Targets::draw(model, part, output, stream),
        |targets: &[Targets]| {
            let counts = targets.iter().map(Targets::counts);
            whole(counts.fold(StepCounts::default(), StepCounts::plus))
        },
        |part, seen, targets, (counts, factor)| {
            let shares = targets.counts().shares(*counts);
            let losses = target_losses(model, part, seen, targets, device);
            losses.scaled(shares.map(|share| share * factor))
        },
    )
}

/// As [`host_parts`], matched and sampled on the device, with nothing read.
fn slot_parts(
    model: &MaskRcnn,
    parts: &[Batch],
    stream: Stream,
    device: &Device,
    scale: f64,
) -> Result<(Tensor<1>, ParamGradients), ExecutionError> {
    sum_of_parts(
        model,
        parts,
        device,
        scale,
        |part, output| Ok(Samples::draw(model, part, output, stream)),
        |samples: &[Samples]| {
            let counts = samples.iter().map(Samples::counts);
            let sum = counts.reduce(|sum, more| sum + more);
            Ok(sum.unwrap_or_else(|| Tensor::zeros([3], &device.clone().inner())))
        },
        |_, seen, samples, counts| {
            let shares = samples.counts() / counts.clone().clamp_min(1.0);
            let share = |which| Tensor::from_inner(shares.clone().narrow(0, which, 1));
            let [anchors, regions, objects] = [0, 1, 2].map(share);
            let by = [&regions, &regions, &objects, &anchors, &anchors];
            sample_losses(model, seen, samples).scaled(by.map(Tensor::clone))
        },
    )
}

/// `draw` samples a part from what the RPN says of it, `weigh` sees all samples, `losses` are those of a
/// part by its weight; the sums of their values and gradients.
fn sum_of_parts<S, W, E: From<ExecutionError>>(
    model: &MaskRcnn,
    parts: &[Batch],
    device: &Device,
    scale: f64,
    draw: impl Fn(&Batch, &RpnOutput) -> Result<S, ExecutionError>,
    weigh: impl FnOnce(&[S]) -> Result<W, E>,
    losses: impl Fn(&Batch, Seen, &S, &W) -> Losses,
) -> Result<(Tensor<1>, ParamGradients), E> {
    let plain = device.clone().inner();
    let Some((last, others)) = parts.split_last() else {
        // Of several ranks, the others wait in the same calls.
        weigh(&[])?;
        return Ok((Tensor::zeros([5], &plain), ParamGradients::zeros(model)));
    };
    let mut samples = Vec::with_capacity(parts.len());
    if !others.is_empty() {
        let model = model.valid();
        for part in others {
            samples.push(draw(part, &Seen::of(&model, part, &plain).output)?);
        }
    }
    let seen = Seen::of(model, last, device);
    let drawn = draw(last, &seen.output)?;
    samples.push(drawn);
    let weights = weigh(&samples)?;
    let backward = |part: &Batch, seen: Seen, samples: &S| {
        let losses = losses(part, seen, samples, &weights);
        let values = losses.values().inner();
        let gradients = losses.backward(scale);
        (values, ParamGradients::of(model, &gradients))
    };
    let (mut values, mut gradients) = backward(last, seen, &samples[others.len()]);
    for (part, samples) in others.iter().zip(&samples) {
        let (more, gradient) = backward(part, Seen::of(model, part, device), samples);
        values = values + more;
        gradients = gradients.plus(gradient);
    }
    Ok((values, gradients))
}

#[cfg(test)]
mod tests;
