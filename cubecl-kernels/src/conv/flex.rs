//! CPU convolution on flex, whose tensors are in host memory.

use super::cpu::CpuConvOps;
use super::grouped;
use crate::cpu_conv::{self, ConvShape, Epilogue, Weights};
use crate::cpu_memory::{contiguous, write};
use crate::dtype::cast;
use crate::flex::{dims, floats, to_f32};
use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;

impl CpuConvOps for Flex {
    fn cpu_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let [x, weight, scale, bias] = to_f32([x, weight, scale, bias]);
        let output = forward(x, [weight, bias], Some(scale), None, stride, relu);
        cast::<Self>(output, dtype)
    }

    fn cpu_conv_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let [x, weight, scale, bias, residual] = to_f32([x, weight, scale, bias, residual]);
        let (scale, residual) = (Some(scale), Some(residual));
        let output = forward(x, [weight, bias], scale, residual, stride, relu);
        cast::<Self>(output, dtype)
    }
}

/// The convolution with residual and ReLU, f32.
pub(crate) fn forward(
    x: FlexTensor,
    [weight, bias]: [FlexTensor; 2],
    scale: Option<FlexTensor>,
    residual: Option<FlexTensor>,
    stride: usize,
    relu: bool,
) -> FlexTensor {
    let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
    let [scale, residual] = [scale, residual].map(|it| it.map(|tensor| tensor.to_contiguous()));
    let ([n, c, h, w], [o, inputs, kernel, _]) = (dims(&x), dims(&weight));
    if inputs != c {
        let (scale, residual) = (scale.as_ref(), residual.as_ref());
        return grouped::forward(&x, [&weight, &bias], scale, residual, stride, relu);
    }
    let shape = shape([n, c, o], [h, w], kernel, stride);
    let [rows, columns] = shape.output_size();
    let epilogue = Epilogue {
        bias: Some(floats(&bias)),
        residual: residual.as_ref().map(floats),
        relu,
    };
    let weights = Weights {
        values: floats(&weight),
        scale: scale.as_ref().map(floats),
    };
    let isa = cpu_conv::selected();
    write([n, o, rows, columns], |output| {
        cpu_conv::forward(isa, &shape, floats(&x), weights, epilogue, output);
    })
}

/// The gradient of an input of `size`, height and width, from `grad [n, o, h', w']`, f32; weights are
/// `[o, c / groups, k, k]`.
pub fn input_gradient(
    weight: FlexTensor,
    scale: Option<FlexTensor>,
    grad: FlexTensor,
    groups: usize,
    size: [usize; 2],
    stride: usize,
) -> FlexTensor {
    let [weight, grad] = [weight, grad].map(|tensor| tensor.to_contiguous());
    let scale = scale.map(|scale| scale.to_contiguous());
    if groups > 1 {
        return grouped::input_gradient(&weight, scale.as_ref(), &grad, groups, size, stride);
    }
    let ([n, _, _, _], [o, c, kernel, _]) = (dims(&grad), dims(&weight));
    let shape = shape([n, c, o], size, kernel, stride);
    let weights = Weights {
        values: floats(&weight),
        scale: scale.as_ref().map(floats),
    };
    let isa = cpu_conv::selected();
    write([n, c, size[0], size[1]], |gradient| {
        cpu_conv::input_gradient(isa, &shape, weights, floats(&grad), gradient);
    })
}

/// The gradient of scaled weights `[o, c / groups, kernel, kernel]`, from `grad [n, o, h', w']`, f32.
pub fn weight_gradient(
    x: FlexTensor,
    grad: FlexTensor,
    groups: usize,
    kernel: usize,
    stride: usize,
) -> FlexTensor {
    let [x, grad] = [x, grad].map(|tensor| tensor.to_contiguous());
    if groups > 1 {
        return grouped::weight_gradient(&x, &grad, groups, kernel, stride);
    }
    let ([n, c, h, w], [_, o, _, _]) = (dims(&x), dims(&grad));
    let shape = shape([n, c, o], [h, w], kernel, stride);
    let isa = cpu_conv::selected();
    write([o, c, kernel, kernel], |gradient| {
        cpu_conv::weight_gradient(isa, &shape, floats(&x), floats(&grad), gradient);
    })
}

/// The gradient of the scale from that of the scaled weights.
pub(crate) fn scale_gradient(weight: FlexTensor, gradient: FlexTensor) -> FlexTensor {
    let [weight, gradient] = [weight, gradient].map(|tensor| tensor.to_contiguous());
    let [o, _, _, _] = dims(&weight);
    write([o], |sums| {
        cpu_conv::row_products(floats(&weight), floats(&gradient), o, sums);
    })
}

/// `gradient [o, c, k, k]` times `scale [o]`.
pub(crate) fn scaled(gradient: FlexTensor, scale: FlexTensor) -> FlexTensor {
    let scale = scale.to_contiguous();
    let mut gradient = contiguous(gradient);
    cpu_conv::scale_rows(gradient.storage_mut(), floats(&scale));
    gradient
}

fn shape(
    [images, inputs, outputs]: [usize; 3],
    size: [usize; 2],
    kernel: usize,
    stride: usize,
) -> ConvShape {
    ConvShape {
        images,
        inputs,
        outputs,
        size,
        kernel,
        stride,
    }
}
