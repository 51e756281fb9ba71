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
use super::losses::{LossValues, Losses, losses};
use super::params::Part;
use super::peers::{Alone, Peers};
use super::samples::{SampleCounts, Samples};
use super::targets::{sample, sample_inputs};
use crate::model::{MaskRcnn, Prepared};
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError, Gradients, Tensor};
use mrcnn_kernels::sums;

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

/// Losses and gradients, on the device.
pub(crate) struct Sums {
    /// Each `[1]`, in the order of [`Losses::NAMES`].
    pub(crate) losses: [Tensor<1>; Losses::NAMES.len()],
    pub(crate) gradients: ParamGradients,
}

impl Sums {
    /// The sums over no samples.
    pub(crate) fn zeros(model: &MaskRcnn, device: &Device) -> Self {
        Self::zeros_of(model, Part::Whole, device)
    }

    fn zeros_of(model: &MaskRcnn, part: Part, device: &Device) -> Self {
        Self {
            losses: Losses::NAMES.map(|_| Tensor::zeros([1], device)),
            gradients: ParamGradients::zeros_of(model, part),
        }
    }

    /// The same losses with the gradients of other parameters, `first`, before these.
    pub(crate) fn after(self, first: ParamGradients) -> Self {
        Self {
            gradients: first.followed_by(self.gradients),
            ..self
        }
    }

    fn plus(self, other: Self) -> Self {
        let sum = |index: usize| self.losses[index].clone() + other.losses[index].clone();
        Self {
            losses: std::array::from_fn(sum),
            gradients: self.gradients.plus(other.gradients),
        }
    }

    /// Both multiplied by `weight`.
    pub(crate) fn weighted(self, weight: f64) -> Self {
        Self {
            losses: self.losses.map(|loss| loss * weight),
            gradients: self.gradients.scaled(weight),
        }
    }

    /// The total of all `sums`, in order, so that results are bit-equal between runs; `None` if there are none.
    pub(crate) fn of(sums: impl IntoIterator<Item = Self>) -> Option<Self> {
        sums.into_iter().reduce(Self::plus)
    }

    /// The gradients multiplied by `factor`.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self {
            gradients: self.gradients.scaled(factor),
            ..self
        }
    }

    /// The losses, then the square of the gradient norm, unless there are no gradients. One launch on GPUs.
    pub(crate) fn numbers(&self) -> Tensor<1> {
        let mut numbers = Vec::from(self.losses.clone());
        numbers.extend(self.gradients.partial_squares());
        sums(&numbers)
    }

    /// Loss values and gradient norm in one read: the only one of a step, after all work is enqueued.
    pub(crate) fn read(self) -> Result<(LossValues, ParamGradients), ExecutionError> {
        read(self.numbers(), self.gradients)
    }
}

/// Reads the numbers of [`Sums::numbers`]; the gradients then have their norm.
pub(super) fn read(
    numbers: Tensor<1>,
    gradients: ParamGradients,
) -> Result<(LossValues, ParamGradients), ExecutionError> {
    let numbers = numbers.try_into_data()?;
    let numbers: Vec<f32> = numbers.iter::<f32>().collect();
    let squares = numbers.get(Losses::NAMES.len());
    let norm = squares.map_or(0.0, |squares| squares.sqrt());
    let losses = LossValues::first_of(numbers.into_iter());
    Ok((losses, gradients.with_norm(norm)))
}

/// A backward pass, complete up to where the graph is cut.
struct Pass {
    /// The losses and the gradients of the heads; of the whole model if the graph is not cut.
    heads: Sums,
    prepared: Prepared,
    rest: Option<(Cut, Gradients)>,
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
        let changes = prepared.changes.as_ref();
        let heads = Sums {
            losses: losses.all().map(Tensor::inner),
            gradients: ParamGradients::restored(model, part, &gradients, changes),
        };
        Self {
            heads,
            prepared,
            rest: cut.map(|cut| (cut, gradients)),
        }
    }

    /// The sums so far, and what computes the gradients of the backbone, of which there are none if the graph is not cut.
    fn split(self, model: &MaskRcnn) -> (Sums, impl FnOnce() -> ParamGradients) {
        let Self {
            heads,
            prepared,
            rest,
        } = self;
        let backbone = move || {
            let gradients = rest.and_then(|(cut, heads)| cut.backward(heads));
            let changes = prepared.changes.as_ref();
            let restored =
                |gradients| ParamGradients::restored(model, Part::Backbone, &gradients, changes);
            gradients.map_or_else(ParamGradients::none, restored)
        };
        (heads, backbone)
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
        peers.counts(SampleCounts::zeros(&plain))?;
        let (heads, backbone) = match is_cut {
            true => (Part::Heads, ParamGradients::zeros_of(model, Part::Backbone)),
            false => (Part::Whole, ParamGradients::none()),
        };
        let heads = peers.heads(Sums::zeros_of(model, heads, &plain))?;
        return peers.sums(heads, backbone);
    };
    let mut samples = Vec::with_capacity(micro_batches.len());
    if !others.is_empty() {
        let model = model.valid().prepared().model;
        for micro_batch in others {
            let step = StepFeatures::new(&model, micro_batch, &plain);
            samples.push(sample(&model, micro_batch, &step, stream)?);
        }
    }
    let prepared = model.prepared();
    let step = StepFeatures::of_batch(&prepared.model, last, device, is_cut);
    let of_last = sample(model, last, &step, stream)?;
    let counts = samples.iter().map(Samples::counts);
    let counts = peers.counts(counts.fold(of_last.counts(), SampleCounts::plus))?;
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
    let heads = peers.heads(plus(heads_before, heads, Sums::plus))?;
    peers.sums(
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
