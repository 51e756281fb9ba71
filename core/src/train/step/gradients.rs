//! The gradients of a step, by parameter; of several replicas, their mean.

use crate::model::MaskRcnn;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor};
use std::collections::HashMap;

/// Gradients of the trained parameters, flat, in the order in which the model names them.
#[derive(Clone, Debug, Default)]
pub struct ParamGradients(pub(crate) Vec<(ParamId, Tensor<1>)>, pub(crate) Option<f32>);

impl ParamGradients {
    /// Takes the gradients of the parameters of `model` that need one.
    pub fn of(model: &MaskRcnn, gradients: &Gradients) -> Self {
        let mut collect = Collect {
            gradients,
            found: Vec::new(),
        };
        model.visit(&mut collect);
        Self(collect.found, None)
    }

    /// Zeros for every parameter of `model` that is trained: those of no picture.
    pub fn zeros(model: &MaskRcnn) -> Self {
        let mut zeros = Zeros(Vec::new());
        model.visit(&mut zeros);
        Self(zeros.0, None)
    }

    /// The tensors by themselves, for [`Self::with`].
    pub(crate) fn tensors(&self) -> Vec<Tensor<1>> {
        self.0
            .iter()
            .map(|(_, gradient)| gradient.clone())
            .collect()
    }

    /// The same parameters with other gradients, in the same order.
    pub(crate) fn with(self, tensors: impl Iterator<Item = Tensor<1>>) -> Self {
        let ids = self.0.into_iter().map(|(id, _)| id);
        Self(ids.zip(tensors).collect(), None)
    }

    /// The same gradients with a length that another rank measured. Two cards may sum in another order,
    /// and weights that are clipped by different lengths come apart.
    pub(crate) fn with_norm(self, norm: f32) -> Self {
        Self(self.0, Some(norm))
    }

    /// The gradients of losses that were multiplied by `scale`, divided by it.
    pub(crate) fn unscaled(self, scale: f64) -> Self {
        if scale == 1.0 {
            return self;
        }
        let unscaled = self.0.into_iter();
        let unscaled = unscaled.map(|(id, gradient)| (id, gradient * (1.0 / scale)));
        Self(unscaled.collect(), None)
    }

    /// The sums of both, parameter by parameter.
    pub(crate) fn plus(self, other: Self) -> Self {
        let mut other = other.by_id();
        let sum = self.0.into_iter().map(|(id, gradient)| {
            let sum = match other.remove(&id) {
                Some(other) => gradient + other,
                None => gradient,
            };
            (id, sum)
        });
        Self(sum.collect(), None)
    }

    /// The mean of replicas of one model; each counts by its weight, and the weights sum to 1.
    ///
    /// Summed in the order given, so that two runs are bit-equal.
    pub fn mean(parts: Vec<(Self, f64)>) -> Self {
        let mut parts = parts.into_iter();
        let Some((Self(first, _), weight)) = parts.next() else {
            return Self::default();
        };
        let mut sum: Vec<_> = first.into_iter().map(|(id, g)| (id, g * weight)).collect();
        for (Self(part, _), weight) in parts {
            let mut part: HashMap<_, _> = part.into_iter().collect();
            for (id, gradient) in &mut sum {
                if let Some(other) = part.remove(id) {
                    *gradient = gradient.clone() + other * weight;
                }
            }
        }
        Self(sum, None)
    }

    /// The length of all gradients together.
    pub fn norm(&self) -> f32 {
        if let Some(norm) = self.1 {
            return norm;
        }
        if self.0.is_empty() {
            return 0.0;
        }
        let squares = self.0.iter().map(|(_, g)| g.clone().square().sum());
        Tensor::cat(squares.collect(), 0)
            .sum()
            .sqrt()
            .into_scalar::<f32>()
    }

    /// The gradient of each parameter.
    pub fn by_id(self) -> HashMap<ParamId, Tensor<1>> {
        self.0.into_iter().collect()
    }
}

struct Zeros(Vec<(ParamId, Tensor<1>)>);

impl ModuleVisitor for Zeros {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let count = value.shape().num_elements();
            let zeros = value.inner().zeros_like().reshape([count]);
            self.0.push((param.id, zeros));
        }
    }
}

struct Collect<'a> {
    gradients: &'a Gradients,
    found: Vec<(ParamId, Tensor<1>)>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if !value.is_require_grad() {
            return;
        }
        if let Some(gradient) = value.grad(self.gradients) {
            let count = gradient.shape().num_elements();
            self.found.push((param.id, gradient.reshape([count])));
        }
    }
}
