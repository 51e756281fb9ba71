//! Group norm on flex, whose tensors are in host memory.

use super::cpu::{self, Groups};
use super::ops::GroupNormOps;
use crate::cpu_conv::Output;
use crate::cpu_memory::{Uninit, write};
use crate::flex::{dims, floats};
use burn::backend::{Flex, tensor::FloatTensor};
use burn::tensor::Shape;
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

/// The gradients of `x`, the weight and the bias.
pub(super) fn gradients(
    x: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
    setting: (usize, f64),
    statistics: &[f32],
) -> [FlexTensor; 3] {
    let [x, weight, grad] = [x, weight, grad].map(|tensor| tensor.to_contiguous());
    let (shape, groups) = (dims::<4>(&x), groups(&x, setting));
    let values = [floats(&x), floats(&grad)];
    let sums = cpu::channel_sums(values[0], values[1], statistics, &groups);
    let of_x = write(shape, |gradient| {
        cpu::input_gradient(
            values,
            floats(&weight),
            statistics,
            &sums,
            &groups,
            gradient,
        );
    });
    let channels = groups.channels;
    let mut of_bias = Uninit::new(channels);
    let of_weight = write([channels], |of_weight| {
        cpu::affine_gradients(&sums, channels, [of_weight, of_bias.output()]);
    });
    // SAFETY: written above.
    let of_bias = unsafe { of_bias.into_tensor(Shape::new([channels])) };
    [of_x, of_weight, of_bias]
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
