//! Sums of losses and gradients, and their only read.

use super::gradients::ParamGradients;
use super::losses::{LossValues, Losses};
use super::params::Part;
use crate::model::MaskRcnn;
use burn::tensor::{Device, ExecutionError, Tensor};
use mrcnn_kernels::sum_each;

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

    pub(super) fn zeros_of(model: &MaskRcnn, part: Part, device: &Device) -> Self {
        Self {
            losses: Losses::NAMES.map(|_| Tensor::zeros([1], device)),
            gradients: ParamGradients::zeros_of(model, part),
        }
    }

    /// The same losses with the gradients of other parameters, `first`, before these.
    pub(crate) fn with_first(self, first: ParamGradients) -> Self {
        Self {
            gradients: first.chain(self.gradients),
            ..self
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
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
        numbers.extend(self.gradients.partial_sums_of_squares());
        sum_each(&numbers)
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
