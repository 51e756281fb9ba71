//! Optimizers: SGD with momentum as in torch, and AdamW (Loshchilov and Hutter, 2017).

use crate::config::{DecayScope, OptimizerKind, TrainConfig};
use crate::model::MaskRcnn;
use crate::train::step::gradients::ParamGradients;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;
use std::collections::HashMap;

/// An optimizer and its state, one entry per trained parameter.
#[derive(Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    momentum: f64,
    weight_decay: f64,
    decay: DecayScope,
    bias_gradient: f64,
    clip_norm: f64,
    pub(crate) steps: i32,
    pub(crate) state: HashMap<ParamId, Moments>,
}

/// Flat, in the order of the parameter's elements.
#[derive(Debug)]
pub(crate) struct Moments {
    /// SGD's velocity or AdamW's mean of the gradient.
    pub(crate) first: Tensor<1>,
    /// AdamW's mean of the squared gradient.
    pub(crate) second: Option<Tensor<1>>,
}

/// Outcome of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Gradient norm before clipping.
    pub grad_norm: f32,
    /// Whether the weights were updated; false if the gradient was not finite.
    pub applied: bool,
}

impl StepOutcome {
    /// The outcome of a step that is skipped because its loss is not finite.
    pub(crate) const REFUSED: Self = Self {
        grad_norm: f32::NAN,
        applied: false,
    };
}

/// AdamW's decay rate of the mean squared gradient, and the epsilon in its denominator.
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl Optimizer {
    /// An optimizer before its first step.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            kind: config.optimizer,
            momentum: config.momentum,
            weight_decay: config.weight_decay,
            decay: config.decay,
            bias_gradient: config.bias_gradient,
            clip_norm: config.clip_norm,
            steps: 0,
            state: HashMap::new(),
        }
    }

    /// Updates every trained parameter. If a gradient is not finite, nothing is updated.
    pub fn step(
        &mut self,
        model: MaskRcnn,
        gradients: ParamGradients,
        learning_rate: f64,
    ) -> (MaskRcnn, StepOutcome) {
        let grad_norm = gradients.norm();
        if !grad_norm.is_finite() {
            return (
                model,
                StepOutcome {
                    grad_norm,
                    applied: false,
                },
            );
        }
        self.steps += 1;
        let too_long = self.clip_norm > 0.0 && grad_norm as f64 > self.clip_norm;
        let scale = if too_long {
            self.clip_norm / grad_norm as f64
        } else {
            1.0
        };
        let (gradients, factor) = gradients.with_factor();
        let model = model.map(&mut Update {
            optimizer: self,
            gradients,
            learning_rate,
            scale: scale * factor,
            path: Vec::new(),
        });
        (
            model,
            StepOutcome {
                grad_norm,
                applied: true,
            },
        )
    }

    /// The update of a parameter for a gradient, both flat.
    fn delta(
        &mut self,
        id: ParamId,
        value: Tensor<1>,
        gradient: Tensor<1>,
        [rate, decay]: [f64; 2],
    ) -> Tensor<1> {
        let old = self.state.remove(&id);
        let (moments, delta) = match self.kind {
            OptimizerKind::Sgd => self.sgd(old, value, gradient, [rate, decay]),
            OptimizerKind::Adamw => self.adamw(old, value, gradient, [rate, decay]),
        };
        self.state.insert(id, moments);
        delta
    }

    /// The weight decay of a parameter and the multiplier of its gradient, by its position in the model.
    fn rule(&self, place: &Place) -> (f64, f64) {
        let decays = match self.decay {
            DecayScope::All => true,
            DecayScope::WithoutNorms => !place.in_norm,
            DecayScope::Weights => !place.in_norm && !place.is_bias,
        };
        (
            if decays { self.weight_decay } else { 0.0 },
            if place.is_bias {
                self.bias_gradient
            } else {
                1.0
            },
        )
    }

    /// torch's SGD without dampening: `g += wd * p; v = mu * v + g; p -= lr * v`.
    fn sgd(
        &self,
        old: Option<Moments>,
        value: Tensor<1>,
        gradient: Tensor<1>,
        [rate, decay]: [f64; 2],
    ) -> (Moments, Tensor<1>) {
        let gradient = gradient + value * decay;
        let first = match old {
            Some(old) => old.first * self.momentum + gradient,
            None => gradient,
        };
        (
            Moments {
                first: first.clone(),
                second: None,
            },
            first * rate,
        )
    }

    /// `p -= lr * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + wd * p)`; `b1` is the momentum.
    fn adamw(
        &self,
        old: Option<Moments>,
        value: Tensor<1>,
        gradient: Tensor<1>,
        [rate, decay]: [f64; 2],
    ) -> (Moments, Tensor<1>) {
        let beta1 = self.momentum;
        let squared = gradient.clone().square() * (1.0 - BETA2);
        let gradient = gradient * (1.0 - beta1);
        let (first, second) = match old {
            Some(Moments {
                first,
                second: Some(second),
            }) => (first * beta1 + gradient, second * BETA2 + squared),
            _ => (gradient, squared),
        };
        let mean = first.clone() / (1.0 - beta1.powi(self.steps));
        let root = (second.clone() / (1.0 - BETA2.powi(self.steps))).sqrt() + EPSILON;
        let delta = (mean / root + value * decay) * rate;
        (
            Moments {
                first,
                second: Some(second),
            },
            delta,
        )
    }
}

/// Position of a parameter in the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    in_norm: bool,
    is_bias: bool,
}

struct Update<'a> {
    optimizer: &'a mut Optimizer,
    gradients: HashMap<ParamId, Tensor<1>>,
    learning_rate: f64,
    scale: f64,
    path: Vec<Place>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(Place {
            in_norm: container == "Struct:Norm",
            is_bias: name == "bias",
        });
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(mut gradient) = self.gradients.remove(&param.id) else {
            return param;
        };
        let place = self.path.last().copied().unwrap_or_default();
        let (decay, factor) = self.optimizer.rule(&place);
        let scale = self.scale * factor;
        if scale != 1.0 {
            gradient = gradient * scale;
        }
        let value = param.val().inner();
        let shape = value.shape();
        let flat = value.clone().reshape([shape.num_elements()]);
        let delta = self
            .optimizer
            .delta(param.id, flat, gradient, [self.learning_rate, decay]);
        let moved = value - delta.reshape(shape);
        param.map(|_| Tensor::from_inner(moved).require_grad())
    }
}

#[cfg(test)]
mod tests;
