//! Names, initial values and freezing of a model's parameters.
//!
//! A part of a model builds its layers from an [`Init`], chooses the initializer of each parameter and freezes layers.
//! Random values are a pure function of the parameter's name and the seed, so that they are the same on every
//! backend.

use crate::random::Stream;
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::upload_dense;
use std::fmt::Display;

/// Initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// A constant.
    Constant(f32),
    /// A normal distribution with this standard deviation.
    Normal(f64),
    /// Kaiming's normal distribution by fan-out, for a ReLU: torchvision's ResNets and mask head.
    KaimingNormal,
    /// Kaiming's uniform distribution by fan-in with `a = 1`: torchvision's FPN and linear layers.
    KaimingUniform,
}

/// Position of a part in a model, and how its parameters are initialized.
#[derive(Clone, Debug)]
pub struct Init<'a> {
    device: &'a Device,
    /// `None` initializes every parameter with 0, to be loaded.
    seed: Option<u64>,
    /// The names of the modules above, each followed by a dot.
    path: String,
    is_frozen: bool,
}

impl<'a> Init<'a> {
    /// Random values for a model on `device`.
    pub fn random(seed: u64, device: &'a Device) -> Self {
        Self {
            device,
            seed: Some(seed),
            path: String::new(),
            is_frozen: false,
        }
    }

    /// Zeros for a model on `device` whose weights are loaded next: 44 million unused random numbers take seconds in a
    /// browser.
    pub fn zeros(device: &'a Device) -> Self {
        Self {
            seed: None,
            ..Self::random(0, device)
        }
    }

    /// The device.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// The part `name`, which must be the name of the field or the index of the element.
    pub fn child(&self, name: impl Display) -> Self {
        Self {
            path: format!("{}{name}.", self.path),
            ..self.clone()
        }
    }

    /// The same part, frozen if `is_frozen` or if it was frozen before.
    pub fn frozen(&self, is_frozen: bool) -> Self {
        Self {
            is_frozen: self.is_frozen || is_frozen,
            ..self.clone()
        }
    }

    /// Whether the part is frozen.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// The parameter `name` of this part.
    pub fn param<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        fill: Fill,
    ) -> Param<Tensor<D>> {
        let tensor: Tensor<D> = match self.seed {
            Some(seed) => {
                let stream = Stream::named(&format!("{}{name}", self.path), seed);
                let values = TensorData::new(values(stream, &shape, fill), shape);
                upload_dense(values, self.device)
            }
            None => Tensor::zeros(shape, self.device),
        };
        Param::from_tensor(tensor).set_require_grad(!self.is_frozen)
    }
}

/// The values of a parameter whose first axes are its outputs and inputs.
fn values(stream: Stream, shape: &[usize], fill: Fill) -> Vec<f32> {
    let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f64;
    let fan_out = shape.iter().enumerate().filter(|(axis, _)| *axis != 1);
    let fan_out = fan_out.map(|(_, n)| *n).product::<usize>().max(1) as f64;
    let normal = |deviation: f64, i: u64| (stream.normal(i) * deviation) as f32;
    let uniform = |bound: f64, i: u64| ((2.0 * stream.uniform(i) - 1.0) * bound) as f32;
    let count = shape.iter().product::<usize>() as u64;
    (0..count)
        .map(|i| match fill {
            Fill::Constant(value) => value,
            Fill::Normal(deviation) => normal(deviation, i),
            Fill::KaimingNormal => normal((2.0 / fan_out).sqrt(), i),
            Fill::KaimingUniform => uniform((3.0 / fan_in).sqrt(), i),
        })
        .collect()
}
