//! Convolution and linear layers with torch's weight layouts.
//!
//! Parameters are f32. A layer computes in the dtype of its input: its parameters are cast to it, and their gradients
//! are f32 again.

use super::init::{Fill, Init};
use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{FloatDType, Tensor, activation::relu, module};
use mrcnn_kernels::{conv1x1, conv3x3};

/// Settings of a [`Conv2d`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvSettings {
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Rows and columns of zeros at each border.
    pub padding: usize,
    /// Groups of channels that are convolved separately; they divide both numbers of channels.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Initial weights; biases are 0.
    pub fill: Fill,
}

impl ConvSettings {
    /// Stride 1, one group, no bias, Kaiming's normal distribution; odd kernels keep the size.
    pub fn new(input: usize, output: usize, kernel: usize) -> Self {
        Self {
            input,
            output,
            kernel,
            stride: 1,
            padding: kernel.saturating_sub(1) / 2,
            groups: 1,
            bias: false,
            fill: Fill::KaimingNormal,
        }
    }
}

/// 2-D convolution with square kernels.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in / groups, k, k]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    settings: ConvSettings,
}

impl Conv2d {
    /// A convolution.
    pub fn new(init: &Init<'_>, settings: ConvSettings) -> Self {
        let ConvSettings {
            input,
            output,
            kernel,
            groups,
            ..
        } = settings;
        let shape = [output, input / groups.max(1), kernel, kernel];
        let bias = || init.param("bias", [output], Fill::Constant(0.0));
        Self {
            weight: init.param("weight", shape, settings.fill),
            bias: settings.bias.then(bias),
            settings,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &ConvSettings {
        &self.settings
    }

    /// `[n, in, h, w]` -> `[n, out, h', w']`, `h' = (h + 2 padding - k) / stride + 1`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(Param::val);
        self.forward_with(x, self.weight.val(), bias, false)
    }

    /// [`Self::forward`] and a ReLU, in one pass over the output where there is a kernel for both.
    pub fn rectified(&self, x: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(Param::val);
        self.forward_with(x, self.weight.val(), bias, true)
    }

    /// The same convolution with other weights, such as those with a norm folded in. A ReLU follows if `rectify`.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        weight: Tensor<4>,
        bias: Option<Tensor<1>>,
        rectify: bool,
    ) -> Tensor<4> {
        let (weight, bias) = (like(weight, &x), bias.map(|bias| like(bias, &x)));
        let ConvSettings {
            kernel,
            stride,
            padding,
            groups,
            ..
        } = self.settings;
        let output = match (kernel, stride, padding, groups) {
            (1, _, 0, 1) => conv1x1(x, weight, bias, stride),
            (3, 1..=2, 1, 1) => return conv3x3(x, weight, bias, stride, rectify),
            _ => {
                let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups);
                module::conv2d(x, weight, bias, options)
            }
        };
        if rectify { relu(output) } else { output }
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
    /// A layer of `input` to `output` features with a bias of 0.
    pub fn new(init: &Init<'_>, input: usize, output: usize, fill: Fill) -> Self {
        Self {
            weight: init.param("weight", [output, input], fill),
            bias: init.param("bias", [output], Fill::Constant(0.0)),
        }
    }

    /// `[n, in]` -> `[n, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = like(self.weight.val(), &x).transpose();
        let bias = like(self.bias.val(), &x);
        x.matmul(weight) + bias.unsqueeze()
    }
}

/// `tensor` in the dtype of `x`. Burn itself does not check: it panics on a mixture or, on GPUs, reads
/// one dtype as the other.
pub(crate) fn like<const D: usize, const E: usize>(tensor: Tensor<D>, x: &Tensor<E>) -> Tensor<D> {
    to(tensor, x.dtype().into())
}

/// `tensor` as `dtype`; differentiable.
pub(crate) fn to<const D: usize>(tensor: Tensor<D>, dtype: FloatDType) -> Tensor<D> {
    match FloatDType::from(tensor.dtype()) == dtype {
        true => tensor,
        false => tensor.cast(dtype),
    }
}

/// `tensor` as f32.
pub(crate) fn full<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    to(tensor, FloatDType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Grouped convolutions and even kernels against their definition.
    #[test]
    fn grouped_and_even_convolutions_follow_their_definition() {
        let device = Device::flex();
        for (groups, kernel, stride, padding) in [
            (1, 3, 1, 1),
            (4, 3, 2, 1),
            (2, 1, 1, 0),
            (1, 2, 2, 0),
            (4, 4, 4, 0),
            (8, 3, 1, 1),
        ] {
            let settings = ConvSettings {
                stride,
                padding,
                groups,
                bias: true,
                ..ConvSettings::new(8, 8, kernel)
            };
            let conv = Conv2d::new(&Init::random(1, &device).child("conv"), settings);
            let (rows, columns) = (8, 12);
            let x: Vec<f32> = (0..8 * rows * columns)
                .map(|i| (i * 37 % 101) as f32)
                .collect();
            let data = TensorData::new(x.clone(), [1, 8, rows, columns]);
            let found = conv.forward(Tensor::from_data(data, &device));
            let [_, outputs, height, width] = found.dims();
            let weight: Vec<f32> = conv.weight.val().into_data().iter::<f32>().collect();
            let per_group = 8 / groups;
            let mut wanted = Vec::new();
            for (output, y, x_out) in (0..outputs)
                .flat_map(|o| (0..height).flat_map(move |y| (0..width).map(move |x| (o, y, x))))
            {
                let mut sum = 0.0f64;
                for (channel, i, j) in (0..per_group).flat_map(|c| {
                    (0..kernel).flat_map(move |i| (0..kernel).map(move |j| (c, i, j)))
                }) {
                    let (row, column) = (y * stride + i, x_out * stride + j);
                    let inside = (padding..rows + padding).contains(&row)
                        && (padding..columns + padding).contains(&column);
                    if inside {
                        let from = output / per_group * per_group + channel;
                        let value = x[(from * rows + row - padding) * columns + column - padding];
                        let index = ((output * per_group + channel) * kernel + i) * kernel + j;
                        sum += f64::from(value) * f64::from(weight[index]);
                    }
                }
                wanted.push(sum);
            }
            let found: Vec<f64> = found.into_data().iter::<f64>().collect();
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                // Sums of up to 72 products of up to 100 in f32.
                assert!(
                    (found - wanted).abs() < 1e-3,
                    "{settings:?}: {found}, {wanted}"
                );
            }
        }
    }
}
