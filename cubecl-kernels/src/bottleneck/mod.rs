//! A bottleneck of a ResNet as one operation: 1x1, 3x3 and 1x1 convolutions with biases, a residual and ReLUs.
//!
//! On devices with matrix units, each convolution is one kernel with its bias, residual and ReLU, and so is the
//! gradient of its input: that kernel also applies the mask of the ReLU before it and adds the shortcut's gradient.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(all(test, feature = "flex"))]
mod tests;

use crate::conv::ConvParams;
use crate::conv1x1::{Conv1x1Ops, subsample};
use crate::conv3x3::Conv3x3Ops;
use crate::dtype::to_dtype_of;
use crate::links::Links;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// The bottleneck as a backend operation; use [`bottleneck()`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait BottleneckOps: Backend + Conv1x1Ops + Conv3x3Ops {
    /// See [`bottleneck()`]; without `has_projection`, the last two tensors are not read.
    #[allow(clippy::too_many_arguments)]
    #[fusion(default)]
    fn bottleneck(
        x: FloatTensor<Self>,
        weight1: FloatTensor<Self>,
        bias1: FloatTensor<Self>,
        weight2: FloatTensor<Self>,
        bias2: FloatTensor<Self>,
        weight3: FloatTensor<Self>,
        bias3: FloatTensor<Self>,
        projection: FloatTensor<Self>,
        projection_bias: FloatTensor<Self>,
        stride: usize,
        has_projection: bool,
        _links: Links,
    ) -> FloatTensor<Self> {
        let convs = [(weight1, bias1), (weight2, bias2), (weight3, bias3)];
        let projection = has_projection.then_some((projection, projection_bias));
        forward::<Self>(x, convs, projection, stride).output
    }
}

/// Weights and bias of a convolution.
type Conv<B> = (FloatTensor<B>, FloatTensor<B>);

/// Activations of a block.
struct Activations<T> {
    /// The inputs of the second and the third convolution.
    hidden: [T; 2],
    /// The input of the projection.
    projected: Option<T>,
    output: T,
}

fn forward<B: Conv1x1Ops + Conv3x3Ops>(
    x: FloatTensor<B>,
    convs: [Conv<B>; 3],
    projection: Option<Conv<B>>,
    stride: usize,
) -> Activations<FloatTensor<B>> {
    let [(weight1, bias1), (weight2, bias2), (weight3, bias3)] = convs;
    let links = Links::default();
    let (projected, shortcut) = match projection {
        None => (None, x.clone()),
        Some((weight, bias)) => {
            let x = subsample::<B>(x.clone(), stride);
            (Some(x.clone()), B::conv1x1(x, weight, bias, false, links))
        }
    };
    let first = B::conv1x1(x, weight1, bias1, true, links);
    let second = B::conv3x3(first.clone(), weight2, bias2, stride, true, links);
    let output = B::conv1x1_with_residual(second.clone(), weight3, bias3, shortcut, true);
    Activations {
        hidden: [first, second],
        projected,
        output,
    }
}

/// `relu(conv3(relu(conv2(relu(conv1(x))))) + shortcut)`: `[n, o, h', w']` in the dtype of `x`, channels-last, where
/// `h'` is `ceil(h / stride)`.
///
/// * `x` - `[n, c, h, w]`.
/// * `convs` - 1x1 with stride 1, 3x3 with a stride of 1 or 2, 1x1 with stride 1.
/// * `projection` - the 1x1 convolution of the shortcut, with the stride of the 3x3 one. Without it the shortcut is
///   `x`, and the stride must be 1.
/// * `links` - see [`Links`].
///
/// All convolutions have a bias and no scale; weights and biases are cast to the dtype of `x`. Source: He et al., 2015,
/// with the stride in the 3x3 convolution as in torchvision (ResNet v1.5). Differentiable in all tensors.
///
/// # Panics
///
/// If the shapes or strides do not match, a bias is missing, or there is a scale.
pub fn bottleneck(
    x: Tensor<4>,
    convs: [ConvParams; 3],
    projection: Option<ConvParams>,
    links: Links,
) -> Tensor<4> {
    let stride = convs[1].stride;
    check(&x, &convs, projection.as_ref());
    let tensors = |conv: ConvParams| {
        let bias = conv.bias.expect("bottleneck: each convolution has a bias");
        let (weight, bias) = (to_dtype_of(conv.weight, &x), to_dtype_of(bias, &x));
        (weight.into_dispatch(), bias.into_dispatch())
    };
    let [first, second, third] = convs.map(tensors);
    let has_projection = projection.is_some();
    // Without a projection the operation needs two more tensors nevertheless.
    let projection = projection.map_or_else(|| third.clone(), tensors);
    Tensor::from_dispatch(<Dispatch as BottleneckOps>::bottleneck(
        x.into_dispatch(),
        first.0,
        first.1,
        second.0,
        second.1,
        third.0,
        third.1,
        projection.0,
        projection.1,
        stride,
        has_projection,
        links,
    ))
}

/// Panics for arguments that do not fit together, see [`bottleneck()`].
fn check(x: &Tensor<4>, convs: &[ConvParams; 3], projection: Option<&ConvParams>) {
    let [_, channels, ..] = x.dims();
    let [first, second, third] = convs;
    let strides = [first, second, third].map(|conv| conv.stride);
    assert!(
        matches!(strides, [1, 1 | 2, 1]),
        "bottleneck: strides {strides:?} instead of 1, 1 or 2, 1"
    );
    let hidden = check_conv(first, 1, channels);
    let outputs = check_conv(third, 1, check_conv(second, 3, hidden));
    let shortcut = match projection {
        Some(projection) => (check_conv(projection, 1, channels), projection.stride),
        None => (channels, 1),
    };
    assert_eq!(
        shortcut,
        (outputs, second.stride),
        "bottleneck: the shortcut must have the channels and the stride of the output"
    );
}

/// Panics if a convolution of `inputs` channels has another shape or no bias; returns its output channels.
fn check_conv(conv: &ConvParams, side: usize, inputs: usize) -> usize {
    let [outputs, ..] = conv.weight.dims();
    assert_eq!(
        conv.weight.dims(),
        [outputs, inputs, side, side],
        "bottleneck: the weights of a {side}x{side} convolution of {inputs} channels"
    );
    let bias = conv.bias.as_ref().map(Tensor::dims);
    assert_eq!(
        bias,
        Some([outputs]),
        "bottleneck: a bias per output channel"
    );
    assert!(
        conv.scale.is_none(),
        "bottleneck: scales must be folded into the weights"
    );
    outputs
}
