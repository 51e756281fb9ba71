//! Optimizers: SGD with momentum as in torch, and AdamW (Loshchilov and Hutter, 2017).

use crate::config::{DecayScope, OptimizerKind, TrainConfig};
use crate::model::MaskRcnn;
use crate::train::step::gradients::ParamGradients;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;
use mrcnn_kernels::{AdamwUpdate, SgdUpdate, UpdateRates, adamw, sgd};
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

/// Moments of a parameter, flat, in the order of its elements.
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
    pub is_applied: bool,
}

impl StepOutcome {
    /// The outcome of a step that is skipped because its loss is not finite.
    pub(crate) const REFUSED: Self = Self {
        grad_norm: f32::NAN,
        is_applied: false,
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
                    is_applied: false,
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
                is_applied: true,
            },
        )
    }

    /// A parameter after its update by a gradient, both flat.
    fn updated(
        &mut self,
        id: ParamId,
        value: Tensor<1>,
        gradient: Tensor<1>,
        rates: UpdateRates,
    ) -> Tensor<1> {
        let zeros = || Tensor::zeros(value.shape(), &value.device());
        let old = self.state.remove(&id);
        let (first, second) = match old {
            Some(Moments { first, second }) => (first, second),
            None => (zeros(), None),
        };
        let (value, moments) = match self.kind {
            OptimizerKind::Sgd => {
                let momentum = self.momentum;
                let update = SgdUpdate { rates, momentum };
                let (value, first) = sgd(&update, value, gradient, first);
                (
                    value,
                    Moments {
                        first,
                        second: None,
                    },
                )
            }
            OptimizerKind::Adamw => {
                let update = AdamwUpdate {
                    rates,
                    betas: [self.momentum, BETA2],
                    epsilon: EPSILON,
                    step: self.steps,
                };
                let means = [first, second.unwrap_or_else(zeros)];
                let (value, [first, second]) = adamw(&update, value, gradient, means);
                (
                    value,
                    Moments {
                        first,
                        second: Some(second),
                    },
                )
            }
        };
        self.state.insert(id, moments);
        value
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
        let Some(gradient) = self.gradients.remove(&param.id) else {
            return param;
        };
        let place = self.path.last().copied().unwrap_or_default();
        let (decay, factor) = self.optimizer.rule(&place);
        let rates = UpdateRates {
            rate: self.learning_rate,
            decay,
            scale: self.scale * factor,
        };
        let id = param.id;
        param.map(|value| {
            let shape = value.shape();
            let flat = value.inner().reshape([shape.num_elements()]);
            let moved = self.optimizer.updated(id, flat, gradient, rates);
            Tensor::from_inner(moved.reshape(shape)).require_grad()
        })
    }
}

#[cfg(test)]
mod tests;
