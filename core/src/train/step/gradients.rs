//! The gradients of a step by parameter.

use super::params::{Part, trained_of};
use crate::model::{Changes, MaskRcnn, channels_first_gradient};
use burn::backend::DispatchTensor;
use burn::module::{ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor};
use mrcnn_kernels::{TensorList, partial_sums_of_squares, restore_gradients, sum_each};
use std::collections::HashMap;

/// Gradients of the trained parameters, flat, in the order of the model's parameters.
#[derive(Clone, Debug)]
pub struct ParamGradients {
    /// To be multiplied by `factor`.
    gradients: Vec<(ParamId, Tensor<1>)>,
    /// Applied where the gradients are used, because a multiplication of its own is a launch per parameter on GPUs.
    factor: f64,
    /// The gradient norm, if it has been read.
    norm: Option<f32>,
}

impl ParamGradients {
    /// Takes the gradients of the parameters of `model` that need one.
    pub fn of(model: &MaskRcnn, gradients: &Gradients) -> Self {
        Self::restored(model, Part::Whole, gradients, None)
    }

    /// [`Self::of`] a part of `model`, after a pass of [`MaskRcnn::prepared`] with `changes`.
    pub(crate) fn restored(
        model: &MaskRcnn,
        part: Part,
        gradients: &Gradients,
        changes: Option<&Changes>,
    ) -> Self {
        let mut collect = Collect {
            gradients,
            changes,
            ids: Vec::new(),
            found: Vec::new(),
        };
        part.visit(model, &mut collect);
        let Collect { ids, found, .. } = collect;
        let found = match changes {
            Some(changes) => {
                let scales = ids.iter().map(|id| changes.scales.get(id).cloned());
                restore_gradients(TensorList(found), scales.collect())
            }
            None => TensorList(found),
        };
        Self::new(ids.into_iter().zip(found.into_tensors()).collect())
    }

    /// Zeros for every trained parameter of `model`: the gradients of an empty batch.
    pub fn zeros(model: &MaskRcnn) -> Self {
        Self::zeros_of(model, Part::Whole)
    }

    /// [`Self::zeros`] for a part of `model`.
    pub(crate) fn zeros_of(model: &MaskRcnn, part: Part) -> Self {
        let params = trained_of(model, part).into_iter();
        Self::new(params.map(|(id, value)| (id, value.zeros_like())).collect())
    }

    /// The gradients of no parameters.
    pub(crate) fn none() -> Self {
        Self::new(Vec::new())
    }

    pub(crate) fn new(gradients: Vec<(ParamId, Tensor<1>)>) -> Self {
        Self {
            gradients,
            factor: 1.0,
            norm: None,
        }
    }

    /// The gradients with their factor applied.
    fn applied(self) -> Vec<(ParamId, Tensor<1>)> {
        let Self {
            mut gradients,
            factor,
            ..
        } = self;
        for (_, gradient) in &mut gradients {
            *gradient = times(gradient.clone(), factor);
        }
        gradients
    }

    /// Parameters and gradients, in the same order.
    pub(crate) fn into_parts(self) -> (Vec<ParamId>, Vec<Tensor<1>>) {
        self.applied().into_iter().unzip()
    }

    /// The same gradients with a norm that was computed before, perhaps by another rank: GPUs may sum in different
    /// orders, and weights of ranks diverge if they are clipped by different norms.
    pub(crate) fn with_norm(self, norm: f32) -> Self {
        Self {
            norm: Some(norm),
            ..self
        }
    }

    /// The gradients multiplied by `factor`.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self {
            factor: self.factor * factor,
            norm: None,
            ..self
        }
    }

    /// The sums of both, parameter by parameter. A factor that both have stays a factor.
    pub(crate) fn plus(self, other: Self) -> Self {
        if self.factor != other.factor {
            let [this, other] = [self, other].map(|it| Self::new(it.applied()));
            return this.plus(other);
        }
        let factor = self.factor;
        let mut other: HashMap<_, _> = other.gradients.into_iter().collect();
        let sum = self.gradients.into_iter().map(|(id, gradient)| {
            let sum = match other.remove(&id) {
                Some(other) => gradient + other,
                None => gradient,
            };
            (id, sum)
        });
        Self::new(sum.collect()).scaled(factor)
    }

    /// The gradients of both, whose parameters differ: those of `self` first.
    pub(crate) fn chain(self, other: Self) -> Self {
        if self.factor != other.factor {
            let [this, other] = [self, other].map(|it| Self::new(it.applied()));
            return this.chain(other);
        }
        let factor = self.factor;
        let both = self.gradients.into_iter().chain(other.gradients);
        Self::new(both.collect()).scaled(factor)
    }

    /// Values on the device whose sum is the square of the gradient norm; `None` without gradients.
    pub(crate) fn partial_sums_of_squares(&self) -> Option<Tensor<1>> {
        let tensors = self.gradients.iter().map(|(_, gradient)| gradient.clone());
        partial_sums_of_squares(&tensors.collect::<Vec<_>>(), self.factor)
    }

    /// The gradient norm: the L2 norm of all gradients together. Reads it from the device if the step has not.
    pub fn norm(&self) -> f32 {
        if let Some(norm) = self.norm {
            return norm;
        }
        let squares = self.partial_sums_of_squares();
        squares.map_or(0.0, |squares| {
            sum_each(&[squares]).into_scalar::<f32>().sqrt()
        })
    }

    /// The gradient of each parameter.
    pub fn by_id(self) -> HashMap<ParamId, Tensor<1>> {
        self.applied().into_iter().collect()
    }

    /// Tensors by parameter, and the factor by which they are to be multiplied.
    pub(crate) fn with_factor(self) -> (HashMap<ParamId, Tensor<1>>, f64) {
        (self.gradients.into_iter().collect(), self.factor)
    }
}

fn times(tensor: Tensor<1>, factor: f64) -> Tensor<1> {
    if factor == 1.0 {
        tensor
    } else {
        tensor * factor
    }
}

struct Collect<'a> {
    gradients: &'a Gradients,
    /// Without changes, gradients are made flat; otherwise `restore_gradients` does.
    changes: Option<&'a Changes>,
    ids: Vec<ParamId>,
    found: Vec<DispatchTensor>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !value.is_require_grad() {
            return;
        }
        if let Some(gradient) = value.grad(self.gradients) {
            let count = gradient.shape().num_elements();
            self.ids.push(param.id);
            self.found.push(match self.changes {
                None => gradient.reshape([count]).into_dispatch(),
                Some(changes) => match changes.channels.get(&param.id) {
                    Some(&channels) => channels_first_gradient(gradient, channels).into_dispatch(),
                    None => gradient.into_dispatch(),
                },
            });
        }
    }
}
