//! Convolution and linear layers with torch's weight layouts.
//!
//! Parameters are f32. A layer computes in the dtype of its input: it casts its parameters to it, unless they are
//! prepared (see [`super::prepare`]), and their gradients are f32 again.

use super::init::{Fill, Init};
use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{FloatDType, Tensor, activation::relu, module};
use mrcnn_kernels::{
    ConvParams, LinearParams, Links, conv_dtype, conv2d, conv2d_linked, linear, linear_layers,
};

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

    /// The dtype in which it computes for activations of `dtype`.
    pub(crate) fn dtype(&self, dtype: FloatDType) -> FloatDType {
        conv_dtype(self.settings.kernel, self.settings.groups, dtype)
    }

    /// `[n, in, h, w]` -> `[n, out, h', w']`, `h' = (h + 2 padding - k) / stride + 1`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_with(x, self.params(), None, false)
    }

    /// [`Self::forward`] and a ReLU, in one pass over the output if there is a kernel for both.
    pub fn forward_relu(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_with(x, self.params(), None, true)
    }

    /// [`Self::forward`], and a ReLU if `rectify`, with masks of ReLUs as specified by `links`.
    pub(crate) fn forward_linked(&self, x: Tensor<4>, rectify: bool, links: Links) -> Tensor<4> {
        match links == Links::default() {
            true => self.forward_with(x, self.params(), None, rectify),
            false => conv2d_linked(x, self.params(), None, rectify, links),
        }
    }

    /// Whether [`Self::forward_linked`] applies its links on devices that have them ([`mrcnn_kernels::has_links`]).
    pub(crate) fn can_be_linked(&self) -> bool {
        let ConvSettings {
            kernel,
            stride,
            padding,
            groups,
            ..
        } = self.settings;
        matches!((kernel, stride, padding), (1, 1, 0) | (3, 1 | 2, 1))
            && groups == 1
            && self.bias.is_some()
    }

    /// Whether it can be the projection of a bottleneck that is a single operation.
    pub(crate) fn is_projection(&self) -> bool {
        let ConvSettings { kernel, groups, .. } = self.settings;
        (kernel, groups) == (1, 1) && self.settings.padding == 0 && self.bias.is_some()
    }

    /// Weight, bias and stride.
    pub fn params(&self) -> ConvParams {
        ConvParams {
            weight: self.weight.val(),
            scale: None,
            bias: self.bias.as_ref().map(Param::val),
            stride: self.settings.stride,
        }
    }

    /// [`Self::params`] in the dtype of `x`: cast once for several inputs.
    pub fn params_like(&self, x: &Tensor<4>) -> ConvParams {
        let params = self.params();
        ConvParams {
            weight: like(params.weight, x),
            bias: params.bias.map(|bias| like(bias, x)),
            ..params
        }
    }

    /// The same convolution with other parameters, such as those of a folded norm; then the residual is added, and a
    /// ReLU follows if `rectify`.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        params: ConvParams,
        residual: Option<Tensor<4>>,
        rectify: bool,
    ) -> Tensor<4> {
        let ConvSettings {
            kernel,
            stride,
            padding,
            groups,
            ..
        } = self.settings;
        let keeps_size = kernel % 2 == 1 && padding == kernel / 2;
        if keeps_size && (kernel != 3 || stride <= 2) {
            return conv2d(x, params, residual, rectify);
        }
        let weight = match params.scale {
            Some(scale) => params.weight * scale.reshape([-1, 1, 1, 1]),
            None => params.weight,
        };
        let (weight, bias) = (like(weight, &x), params.bias.map(|bias| like(bias, &x)));
        let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups);
        let mut output = module::conv2d(x, weight, bias, options);
        if let Some(residual) = residual {
            output = output + residual;
        }
        if rectify { relu(output) } else { output }
    }
}

/// A 2x2 transposed convolution with stride 2.
#[derive(Module, Debug)]
pub(crate) struct Deconv2x2 {
    /// `[in, out, 2, 2]`.
    pub(crate) weight: Param<Tensor<4>>,
    pub(crate) bias: Param<Tensor<1>>,
}

impl Deconv2x2 {
    pub(crate) fn new(init: &Init<'_>, input: usize, output: usize) -> Self {
        // Each output sums over the input channels, which are axis 0.
        let fill = Fill::Normal((2.0 / input.max(1) as f64).sqrt());
        Self {
            weight: init.param("weight", [input, output, 2, 2], fill),
            bias: init.param("bias", [output], Fill::Constant(0.0)),
        }
    }

    /// `[r, in, h, w]` -> `[r, 4 * out, h, w]`, and a ReLU: the upper left, upper right, lower left and lower right
    /// outputs of each cell. With stride 2 no outputs overlap, so this is a 1x1 convolution, which is fast on every
    /// backend. Masks of ReLUs are applied as specified by `links`.
    pub(crate) fn forward_relu(&self, x: Tensor<4>, links: Links) -> Tensor<4> {
        let [input, output, _, _] = self.weight.dims();
        let weight = self
            .weight
            .val()
            .permute([2, 3, 1, 0])
            .reshape([output * 4, input, 1, 1]);
        let bias = self.bias.val().reshape([1, output]).expand([4, output]);
        let params = ConvParams {
            weight,
            scale: None,
            bias: Some(bias.reshape([4 * output])),
            stride: 1,
        };
        conv2d_linked(x, params, None, true, links)
    }
}

/// Settings of a [`Linear`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearSettings {
    /// Input features.
    pub input: usize,
    /// Output features.
    pub output: usize,
    /// Channels of the maps `[channels, h, w]` that are flattened to the input; 1 for other inputs.
    pub channels: usize,
    /// Initial weights; biases are 0.
    pub fill: Fill,
}

/// Fully connected layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
    /// Channels of maps that are flattened to the input, or 1.
    #[module(skip)]
    pub(crate) channels: usize,
    /// Whether the weights are prepared for maps that are flattened channels-last.
    #[module(skip)]
    pub(crate) reads_channels_last: bool,
}

impl Linear {
    /// A layer with a bias.
    pub fn new(init: &Init<'_>, settings: LinearSettings) -> Self {
        let LinearSettings {
            input,
            output,
            channels,
            fill,
        } = settings;
        Self {
            weight: init.param("weight", [output, input], fill),
            bias: init.param("bias", [output], Fill::Constant(0.0)),
            channels,
            reads_channels_last: false,
        }
    }

    /// Maps `[n, c, h, w]` -> `[n, c * h * w]` in the order of the weights.
    pub(crate) fn flatten(&self, maps: Tensor<4>) -> Tensor<2> {
        match self.reads_channels_last {
            true => maps.permute([0, 2, 3, 1]).flatten(1, 3),
            false => maps.flatten(1, 3),
        }
    }

    /// `[n, in]` -> `[n, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        linear(x, self.params(), false)
    }

    /// [`Self::forward`] and a ReLU, in one pass over the output if there is a kernel for both. Masks of ReLUs are
    /// applied as specified by `links`.
    pub(crate) fn forward_relu(&self, x: Tensor<2>, links: Links) -> Tensor<2> {
        let [output] = linear_layers(x, [self.params()], true, links);
        output
    }

    /// Weight and bias.
    pub fn params(&self) -> LinearParams {
        LinearParams {
            weight: self.weight.val(),
            bias: self.bias.val(),
        }
    }
}

/// `tensor` in the dtype of `x`. Burn does not check dtypes: it panics on a mixture or, on GPUs, reads
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
