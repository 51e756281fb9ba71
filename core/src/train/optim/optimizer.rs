//! Optimizers: SGD with momentum as in torch, and AdamW (Loshchilov and Hutter, 2017).

use crate::config::{DecayScope, OptimizerKind, TrainConfig};
use crate::model::MaskRcnn;
use crate::train::step::gradients::ParamGradients;
use crate::train::step::params::ParamWriter;
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;
use mrcnn_kernels::{AdamwUpdate, ParamFactors, SgdUpdate, adamw, sgd};
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
    pub(crate) const SKIPPED: Self = Self {
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

    /// Updates every trained parameter in place, all of them together. If a gradient is not finite, nothing is updated.
    /// After a panic the parameters are undefined.
    pub fn step(
        &mut self,
        model: &mut MaskRcnn,
        gradients: ParamGradients,
        learning_rate: f64,
    ) -> StepOutcome {
        let grad_norm = gradients.norm();
        if !grad_norm.is_finite() {
            return StepOutcome {
                grad_norm,
                is_applied: false,
            };
        }
        self.steps += 1;
        let is_clipped = self.clip_norm > 0.0 && grad_norm as f64 > self.clip_norm;
        let scale = if is_clipped {
            self.clip_norm / grad_norm as f64
        } else {
            1.0
        };
        let (gradients, factor) = gradients.with_factor();
        let mut extractor = ParamExtractor {
            optimizer: self,
            gradients,
            scale: scale * factor,
            path: Vec::new(),
            extracted: Vec::new(),
        };
        *model = model.clone().map(&mut extractor);
        // The old model is gone now, so each value has one owner and is updated in place.
        let extracted = extractor.extracted;
        let mut writer = ParamWriter(self.update_params(extracted, learning_rate));
        *model = model.clone().map(&mut writer);
        StepOutcome {
            grad_norm,
            is_applied: true,
        }
    }

    /// Updates parameters, and their moments in the state. Returns the new values.
    fn update_params(
        &mut self,
        params: Vec<ExtractedParam>,
        rate: f64,
    ) -> HashMap<ParamId, Tensor<1>> {
        let factors: Vec<_> = params.iter().map(|param| param.factors).collect();
        let ids: Vec<_> = params.iter().map(|param| param.id).collect();
        let results = match self.kind {
            OptimizerKind::Sgd => self.sgd(params, &factors, rate),
            OptimizerKind::Adamw => self.adamw(params, &factors, rate),
        };
        let mut values = HashMap::with_capacity(ids.len());
        for (id, (value, moments)) in ids.into_iter().zip(results) {
            self.state.insert(id, moments);
            values.insert(id, value);
        }
        values
    }

    fn sgd(
        &mut self,
        params: Vec<ExtractedParam>,
        factors: &[ParamFactors],
        rate: f64,
    ) -> Vec<(Tensor<1>, Moments)> {
        let tensors = params.into_iter().map(|param| {
            let old = self.state.remove(&param.id);
            let velocity = old.map_or_else(|| param.value.zeros_like(), |moments| moments.first);
            [param.value, param.gradient, velocity]
        });
        let tensors = tensors.collect();
        let momentum = self.momentum;
        let results = sgd(&SgdUpdate { rate, momentum }, factors, tensors).into_iter();
        let moments = |first| Moments {
            first,
            second: None,
        };
        results
            .map(|[value, first]| (value, moments(first)))
            .collect()
    }

    fn adamw(
        &mut self,
        params: Vec<ExtractedParam>,
        factors: &[ParamFactors],
        rate: f64,
    ) -> Vec<(Tensor<1>, Moments)> {
        let tensors = params.into_iter().map(|param| {
            let zeros = || param.value.zeros_like();
            let (first, second) = match self.state.remove(&param.id) {
                Some(Moments { first, second }) => (first, second),
                None => (zeros(), None),
            };
            let second = second.unwrap_or_else(zeros);
            [param.value, param.gradient, first, second]
        });
        let tensors = tensors.collect();
        let update = AdamwUpdate {
            rate,
            betas: [self.momentum, BETA2],
            epsilon: EPSILON,
            step: self.steps,
        };
        let results = adamw(&update, factors, tensors).into_iter();
        let moments = |first, second| Moments {
            first,
            second: Some(second),
        };
        results
            .map(|[value, first, second]| (value, moments(first, second)))
            .collect()
    }

    /// The weight decay of a parameter and the multiplier of its gradient, by its position in the model.
    fn decay_and_gradient_factor(&self, place: &Place) -> (f64, f64) {
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

/// A parameter that was taken out of the model, so that its memory can be overwritten.
struct ExtractedParam {
    id: ParamId,
    /// Flat, like the gradient.
    value: Tensor<1>,
    gradient: Tensor<1>,
    factors: ParamFactors,
}

/// Takes the parameters that have a gradient out of the model. All are updated together, which is a few launches on
/// GPUs instead of one or more per parameter.
struct ParamExtractor<'a> {
    optimizer: &'a Optimizer,
    gradients: HashMap<ParamId, Tensor<1>>,
    scale: f64,
    path: Vec<Place>,
    extracted: Vec<ExtractedParam>,
}

impl ModuleMapper for ParamExtractor<'_> {
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
        let (decay, factor) = self.optimizer.decay_and_gradient_factor(&place);
        let factors = ParamFactors {
            decay,
            scale: self.scale * factor,
        };
        let id = param.id;
        param.map(|value| {
            let shape = value.shape();
            // A placeholder of the same shape: a view of one element, which takes no memory.
            let one = Tensor::<D>::empty([1; D], &value.device());
            let placeholder = one.expand(shape.clone());
            let value = value.inner().reshape([shape.num_elements()]);
            self.extracted.push(ExtractedParam {
                id,
                value,
                gradient,
                factors,
            });
            placeholder
        })
    }
}

#[cfg(test)]
mod tests;
