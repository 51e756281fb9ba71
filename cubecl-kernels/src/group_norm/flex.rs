//! Group norm on flex, whose tensors are in host memory.

use super::cpu::{self, Groups};
use super::ops::GroupNormOps;
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
        forward(x, [weight, bias], None, groups, epsilon, relu)
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
        forward(x, [weight, bias], Some(residual), groups, epsilon, relu)
    }
}

/// The gradient of `x`.
pub(super) fn input_gradient(
    x: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
    groups: usize,
    epsilon: f64,
) -> FlexTensor {
    let [x, weight, grad] = [x, weight, grad].map(|tensor| tensor.to_contiguous());
    let (shape, setting) = (dims::<4>(&x), setting(&x, groups, epsilon));
    write(shape, |gradient| {
        cpu::input_gradient(
            floats(&x),
            floats(&weight),
            floats(&grad),
            &setting,
            gradient,
        );
    })
}

/// The gradient of the weight, `[c]`.
pub(super) fn weight_gradient(
    x: FlexTensor,
    grad: FlexTensor,
    groups: usize,
    epsilon: f64,
) -> FlexTensor {
    let [x, grad] = [x, grad].map(|tensor| tensor.to_contiguous());
    let setting = setting(&x, groups, epsilon);
    write([setting.channels], |gradient| {
        cpu::weight_gradient(floats(&x), floats(&grad), &setting, gradient);
    })
}

fn forward(
    x: FlexTensor,
    [weight, bias]: [FlexTensor; 2],
    residual: Option<FlexTensor>,
    groups: usize,
    epsilon: f64,
    relu: bool,
) -> FlexTensor {
    let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
    let residual = residual.map(|residual| residual.to_contiguous());
    let (shape, setting) = (dims::<4>(&x), setting(&x, groups, epsilon));
    write(shape, |output| {
        let affine = [floats(&weight), floats(&bias)];
        let residual = residual.as_ref().map(floats);
        cpu::forward(floats(&x), affine, residual, relu, &setting, output);
    })
}

fn setting(x: &FlexTensor, groups: usize, epsilon: f64) -> Groups {
    let [_, channels, h, w] = dims(x);
    Groups {
        channels,
        plane: h * w,
        groups,
        epsilon,
    }
}
