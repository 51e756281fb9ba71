//! Losses and gradients of a step whose batch may be divided into micro-batches: the update of the whole batch with
//! the memory of a micro-batch.
//!
//! Losses are divided by the sample counts of the whole step, which are known only after every micro-batch has been
//! sampled. So all micro-batches but the last go through the backbone twice: first with the RPN and without a graph,
//! to be sampled, then for their forward and backward pass, whose graph is freed before the next one's. The second time
//! the RPN runs only if the losses read all of its output.

use super::cut::Cut;
use super::features::{LossFeatures, StepFeatures};
use super::gradients::ParamGradients;
use super::inputs::SampleInputs;
use super::losses::{LossValues, losses};
use super::params::Part;
use super::peers::{Alone, Peers};
use super::samples::{SampleCounts, Samples};
use super::sums::Sums;
use super::targets::{sample, sample_inputs};
use crate::model::{Changes, MaskRcnn, Prepared};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError, Gradients, Tensor};

/// The losses of `batch` and their gradients, computed in `count` micro-batches of equal size (the first ones have one
/// image more where it does not divide). Until the end, gradients are `scale` times as large.
///
/// Both are those of the whole batch, up to the order of f32 sums. The samples are the same unless the scores of two
/// proposals are so close that the order of sums changes their ranking. `model` must have no trainable batch norm: its
/// statistics would be those of a micro-batch.
pub fn accumulated_losses_and_gradients(
    model: &MaskRcnn,
    batch: Batch,
    count: usize,
    stream: Stream,
    device: &Device,
    scale: f64,
) -> Result<(LossValues, ParamGradients), ExecutionError> {
    let micro_batches = micro_batches(batch, count);
    let sums = sum_of_micro_batches(model, &micro_batches, stream, device, scale, &Alone)?;
    sums.scaled(1.0 / scale).read()
}

/// Splits a batch and keeps padding and positions. An empty batch yields no micro-batches.
pub(crate) fn micro_batches(batch: Batch, count: usize) -> Vec<Batch> {
    if batch.image_ids.is_empty() {
        return Vec::new();
    }
    let mut places = batch.places.clone().into_iter();
    let mut micro_batches = batch.split(count);
    for micro_batch in &mut micro_batches {
        let count = micro_batch.places.len();
        micro_batch.places = places.by_ref().take(count).collect();
    }
    micro_batches
}

/// A backward pass, complete up to where the graph is cut.
struct Pass {
    /// The losses and the gradients of the heads; of the whole model if the graph is not cut.
    heads: Sums,
    /// The rest of a graph that is cut.
    rest: Option<(Cut, Gradients, Option<Changes>)>,
}

impl Pass {
    /// Losses of `samples` and their gradients times `scale`, divided by the `counts` of the whole step. `prepared` was
    /// made from `model`, and its graph is consumed.
    fn start(
        model: &MaskRcnn,
        prepared: Prepared,
        (mut features, samples): (LossFeatures, &Samples),
        counts: &SampleCounts,
        scale: f64,
    ) -> Self {
        let cut = features.cut.take();
        let part = match cut {
            Some(_) => Part::Heads,
            None => Part::Whole,
        };
        let losses = losses(&prepared.model, features, samples, counts);
        let gradients = losses.backward(scale);
        let changes = prepared.changes;
        let heads = Sums {
            losses: losses.all().map(Tensor::inner),
            gradients: ParamGradients::restored(model, part, &gradients, changes.as_ref()),
        };
        Self {
            heads,
            rest: cut.map(|cut| (cut, gradients, changes)),
        }
    }

    /// The sums so far, and a function that computes the gradients of the backbone: none if the graph is not cut.
    fn split(self, model: &MaskRcnn) -> (Sums, impl FnOnce() -> ParamGradients) {
        let rest = self.rest;
        let backbone = move || {
            let Some((cut, heads, changes)) = rest else {
                return ParamGradients::none();
            };
            let gradients = cut.backward(heads);
            gradients.map_or_else(ParamGradients::none, |gradients| {
                let changes = changes.as_ref();
                ParamGradients::restored(model, Part::Backbone, &gradients, changes)
            })
        };
        (self.heads, backbone)
    }
}

/// The numbers of [`Sums::numbers`] and the gradients of a batch that is on the device of `model`, for which
/// [`has_selection_kernels`](mrcnn_kernels::has_selection_kernels) must be true. Uploads and reads nothing, so that a
/// graph can record it.
pub(crate) fn step_on_device(
    model: &MaskRcnn,
    images: Tensor<4>,
    inputs: &SampleInputs,
    scale: f64,
) -> (Tensor<1>, ParamGradients) {
    let prepared = model.prepared();
    let step = StepFeatures::of_images(&prepared.model, images);
    let samples = sample_inputs(model, inputs, step.rpn.clone(), step.padded);
    let counts = samples.counts();
    let work = (step.into(), &samples);
    let pass = Pass::start(model, prepared, work, &counts, scale);
    let sums = pass.heads.scaled(1.0 / scale);
    (sums.numbers(), sums.gradients)
}

/// The sums over `micro_batches` of the losses and of their gradients, the latter times `scale`, and over all `peers`.
pub(crate) fn sum_of_micro_batches<P: Peers>(
    model: &MaskRcnn,
    micro_batches: &[Batch],
    stream: Stream,
    device: &Device,
    scale: f64,
    peers: &P,
) -> Result<Sums, P::Error> {
    let (is_cut, plain) = (peers.cuts_at_pyramid(), device.clone().inner());
    let Some((last, others)) = micro_batches.split_last() else {
        // The other ranks wait in the same calls.
        peers.reduce_counts(SampleCounts::zeros(&plain))?;
        let (heads, backbone) = match is_cut {
            true => (Part::Heads, ParamGradients::zeros_of(model, Part::Backbone)),
            false => (Part::Whole, ParamGradients::none()),
        };
        let heads = peers.send_heads(Sums::zeros_of(model, heads, &plain))?;
        return peers.finish(heads, backbone);
    };
    let mut samples = Vec::with_capacity(micro_batches.len());
    if !others.is_empty() {
        let model = model.valid().prepared().model;
        for micro_batch in others {
            let step = StepFeatures::new(&model, micro_batch, &plain, false);
            samples.push(sample(&model, micro_batch, &step, stream)?);
        }
    }
    let prepared = model.prepared();
    let step = StepFeatures::new(&prepared.model, last, device, is_cut);
    let of_last = sample(model, last, &step, stream)?;
    let counts = samples.iter().map(Samples::counts);
    let counts = peers.reduce_counts(counts.fold(of_last.counts(), SampleCounts::plus))?;
    let mut pass = Pass::start(model, prepared, (step.into(), &of_last), &counts, scale);
    let (mut heads_before, mut backbone_before) = (None, None);
    for (micro_batch, samples) in others.iter().zip(&samples) {
        let (heads, backbone) = pass.split(model);
        heads_before = Some(plus(heads_before, heads, Sums::plus));
        backbone_before = Some(plus(backbone_before, backbone(), ParamGradients::plus));
        // Prepared again, because a backward pass consumes the graph from the parameters to the prepared weights.
        let prepared = model.prepared();
        let features = LossFeatures::new(&prepared.model, micro_batch, device, is_cut);
        pass = Pass::start(model, prepared, (features, samples), &counts, scale);
    }
    let (heads, backbone) = pass.split(model);
    let heads = peers.send_heads(plus(heads_before, heads, Sums::plus))?;
    peers.finish(
        heads,
        plus(backbone_before, backbone(), ParamGradients::plus),
    )
}

fn plus<T>(before: Option<T>, more: T, add: fn(T, T) -> T) -> T {
    match before {
        Some(before) => add(before, more),
        None => more,
    }
}

#[cfg(test)]
mod tests;
