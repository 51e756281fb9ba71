//! Group norm on flex, whose tensors are in host memory.

use super::cpu::{self, ChannelSums, Groups};
use super::ops::GroupNormOps;
use crate::cpu_conv::Output;
use crate::cpu_memory::write;
use crate::flex::{dims, floats};
use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;

impl GroupNormOps for Flex {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self> {
        forward(x, [weight, bias], None, (groups, epsilon), relu).0
    }

    fn group_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self> {
        forward(x, [weight, bias], Some(residual), (groups, epsilon), relu).0
    }
}

/// The norm, and the mean and reciprocal standard deviation of each group `[n, groups, 2]`.
pub(super) fn forward(
    x: FlexTensor,
    [weight, bias]: [FlexTensor; 2],
    residual: Option<FlexTensor>,
    setting: (usize, f64),
    relu: bool,
) -> (FlexTensor, Vec<f32>) {
    let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
    let residual = residual.map(|residual| residual.to_contiguous());
    let (shape, groups) = (dims::<4>(&x), groups(&x, setting));
    let mut statistics = vec![0.0; shape[0] * groups.groups * 2];
    let output = write(shape, |output| {
        let affine = [floats(&weight), floats(&bias)];
        let residual = residual.as_ref().map(floats);
        let outputs = [output, Output::of(&mut statistics)];
        cpu::forward(floats(&x), affine, residual, relu, &groups, outputs);
    });
    (output, statistics)
}

/// Tensors and sums from which the gradients of a group norm are computed.
pub(super) struct GroupNormGradients {
    x: FlexTensor,
    grad: FlexTensor,
    groups: Groups,
    statistics: Vec<f32>,
    sums: Vec<ChannelSums>,
}

impl GroupNormGradients {
    /// Computes the sums from the gradient of the output, before its ReLU, and the statistics of [`forward`].
    pub fn new(
        x: FlexTensor,
        grad: FlexTensor,
        setting: (usize, f64),
        statistics: Vec<f32>,
    ) -> Self {
        let [x, grad] = [x, grad].map(|tensor| tensor.to_contiguous());
        let groups = groups(&x, setting);
        let sums = cpu::channel_sums(floats(&x), floats(&grad), &statistics, &groups);
        Self {
            x,
            grad,
            groups,
            statistics,
            sums,
        }
    }

    /// The gradient of `x`.
    pub fn of_x(&self, weight: FlexTensor) -> FlexTensor {
        let weight = weight.to_contiguous();
        let values = [floats(&self.x), floats(&self.grad)];
        let (statistics, sums) = (&self.statistics, &self.sums);
        write(dims::<4>(&self.x), |gradient| {
            let weight = floats(&weight);
            cpu::input_gradient(values, weight, statistics, sums, &self.groups, gradient);
        })
    }

    /// The gradient of the weight, `[c]`.
    pub fn of_weight(&self) -> FlexTensor {
        self.of_channels(|sums| sums.products)
    }

    /// The gradient of the bias, `[c]`.
    pub fn of_bias(&self) -> FlexTensor {
        self.of_channels(|sums| sums.grad)
    }

    fn of_channels(&self, of: impl Fn(&ChannelSums) -> f64) -> FlexTensor {
        write([self.groups.channels], |gradient| {
            cpu::channel_gradient(&self.sums, of, gradient);
        })
    }
}

fn groups(x: &FlexTensor, (groups, epsilon): (usize, f64)) -> Groups {
    let [_, channels, h, w] = dims(x);
    Groups {
        channels,
        plane: h * w,
        groups,
        epsilon,
    }
}
