//! Stochastic gradient descent with momentum, as torch's: `g += wd * p; v = mu * v + g; p -= lr * v`.

use crate::model::MaskRcnn;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor};
use std::collections::HashMap;

/// The optimizer's state: one velocity a trained parameter, without dampening.
#[derive(Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    clip_norm: f64,
    /// Flat, in the order of the parameter's elements.
    velocity: HashMap<ParamId, Tensor<1>>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Length of the whole gradient before clipping.
    pub grad_norm: f32,
    /// False where the gradient was not finite: the weights are as before.
    pub applied: bool,
}

impl Sgd {
    /// An optimizer without velocity; `clip_norm` 0 does not clip.
    pub fn new(momentum: f64, weight_decay: f64, clip_norm: f64) -> Self {
        Self {
            momentum,
            weight_decay,
            clip_norm,
            velocity: HashMap::new(),
        }
    }

    /// Moves every trained parameter against its gradient. A gradient that is not finite moves nothing.
    pub fn step(
        &mut self,
        model: MaskRcnn,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> (MaskRcnn, StepOutcome) {
        let grad_norm = gradient_norm(&model, gradients);
        if !grad_norm.is_finite() {
            return (
                model,
                StepOutcome {
                    grad_norm,
                    applied: false,
                },
            );
        }
        let too_long = self.clip_norm > 0.0 && grad_norm as f64 > self.clip_norm;
        let scale = if too_long {
            self.clip_norm / grad_norm as f64
        } else {
            1.0
        };
        let model = model.map(&mut Update {
            sgd: self,
            gradients,
            learning_rate,
            scale,
        });
        (
            model,
            StepOutcome {
                grad_norm,
                applied: true,
            },
        )
    }
}

struct Update<'a> {
    sgd: &'a mut Sgd,
    gradients: &'a Gradients,
    learning_rate: f64,
    scale: f64,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = param.val();
        let Some(gradient) = value
            .grad(self.gradients)
            .filter(|_| value.is_require_grad())
        else {
            return param;
        };
        let shape = value.shape();
        let value = value.inner();
        let gradient = gradient * self.scale + value.clone() * self.sgd.weight_decay;
        let gradient = gradient.reshape([shape.num_elements()]);
        let velocity = match self.sgd.velocity.remove(&param.id) {
            Some(velocity) => velocity * self.sgd.momentum + gradient,
            None => gradient,
        };
        self.sgd.velocity.insert(param.id, velocity.clone());
        let moved = value - velocity.reshape(shape) * self.learning_rate;
        param.map(|_| Tensor::from_inner(moved).require_grad())
    }
}

/// The length of all gradients together.
fn gradient_norm(model: &MaskRcnn, gradients: &Gradients) -> f32 {
    let mut norm = Norm {
        gradients,
        squares: Vec::new(),
    };
    model.visit(&mut norm);
    if norm.squares.is_empty() {
        return 0.0;
    }
    Tensor::cat(norm.squares, 0)
        .sum()
        .sqrt()
        .into_scalar::<f32>()
}

struct Norm<'a> {
    gradients: &'a Gradients,
    squares: Vec<Tensor<1>>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.squares.push(gradient.square().sum());
        }
    }
}
