//! Convolution and linear layers with torch's weight layouts.
//!
//! Parameters are f32. A layer computes in the format of what it is given: its parameters are rounded to it
//! where they meet it, and their gradients come back as f32.

use burn::module::{Module, Param};
use burn::tensor::{Device, FloatDType, Tensor};
use mrcnn_kernels::{ConvParams, conv2d};

/// 2-D convolution with square kernels.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, k, k]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    stride: usize,
}

impl Conv2d {
    /// A zero convolution; "same" padding for odd kernels.
    pub fn new(
        [input, output]: [usize; 2],
        kernel: usize,
        stride: usize,
        bias: bool,
        device: &Device,
    ) -> Self {
        Self {
            weight: zeros([output, input, kernel, kernel], device),
            bias: bias.then(|| zeros([output], device)),
            stride,
        }
    }

    /// `[n, in, h, w]` -> `[n, out, h / stride, w / stride]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.params(), None, false)
    }

    /// [`Self::forward`] and a ReLU, in one pass over the output where there is a kernel for both.
    pub fn rectified(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.params(), None, true)
    }

    /// Weight, bias and stride.
    pub fn params(&self) -> ConvParams {
        ConvParams {
            weight: self.weight.val(),
            scale: None,
            bias: self.bias.as_ref().map(Param::val),
            stride: self.stride,
        }
    }
}

/// Fully connected layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// A zero layer.
    pub fn new(input: usize, output: usize, device: &Device) -> Self {
        Self {
            weight: zeros([output, input], device),
            bias: zeros([output], device),
        }
    }

    /// `[n, in]` -> `[n, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = like(self.weight.val(), &x).transpose();
        let bias = like(self.bias.val(), &x);
        x.matmul(weight) + bias.unsqueeze()
    }
}

/// `tensor` in the format of `x`. Burn itself does not check: it panics on a mixture or, on GPUs, reads
/// one format as the other.
pub(crate) fn like<const D: usize, const E: usize>(tensor: Tensor<D>, x: &Tensor<E>) -> Tensor<D> {
    to(tensor, x.dtype().into())
}

/// `tensor` as `format`; differentiable.
pub(crate) fn to<const D: usize>(tensor: Tensor<D>, format: FloatDType) -> Tensor<D> {
    match FloatDType::from(tensor.dtype()) == format {
        true => tensor,
        false => tensor.cast(format),
    }
}

/// `tensor` as f32.
pub(crate) fn full<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    to(tensor, FloatDType::F32)
}

/// A trainable zero parameter.
pub(crate) fn zeros<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::zeros(shape, device))
}
