//! A bottleneck of a ResNet as one operation: 1x1, 3x3 and 1x1 convolutions with biases, a residual and ReLUs.
//!
//! Each convolution is one kernel on devices with matrix units, forwards and backwards: the gradient of an input is
//! masked by the ReLU before it, and gets the gradient of the shortcut, in the kernel that computes it.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(all(test, feature = "flex"))]
mod tests;

use crate::conv::ConvParams;
use crate::conv1x1::Conv1x1Ops;
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
    /// See [`bottleneck()`]; `shortcut` is `x` itself or, with `has_projection`, another tensor.
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
        shortcut: FloatTensor<Self>,
        stride: usize,
        _has_projection: bool,
        _links: Links,
    ) -> FloatTensor<Self> {
        let convs = [(weight1, bias1), (weight2, bias2), (weight3, bias3)];
        let [.., output] = forward::<Self>(x, convs, shortcut, stride);
        output
    }
}

/// The inputs of the second and the third convolution, then the output; `convs` are weights and biases.
fn forward<B: Conv1x1Ops + Conv3x3Ops>(
    x: FloatTensor<B>,
    convs: [(FloatTensor<B>, FloatTensor<B>); 3],
    shortcut: FloatTensor<B>,
    stride: usize,
) -> [FloatTensor<B>; 3] {
    let [(weight1, bias1), (weight2, bias2), (weight3, bias3)] = convs;
    let links = Links::default();
    let first = B::conv1x1(x, weight1, bias1, true, links);
    let second = B::conv3x3(first.clone(), weight2, bias2, stride, true, links);
    let output = B::conv1x1_with_residual(second.clone(), weight3, bias3, shortcut, true);
    [first, second, output]
}

/// `relu(conv3(relu(conv2(relu(conv1(x))))) + shortcut)`: `[n, o, h', w']` in the dtype of `x`, channels-last.
///
/// * `x` - `[n, c, h, w]`.
/// * `convs` - 1x1 with stride 1, 3x3 with a stride of 1 or 2, 1x1 with stride 1; all with a bias and without a scale.
/// * `projection` - the shortcut `[n, o, h', w']`; `x` without it, for which the stride must be 1.
/// * `links` - see [`Links`]; with a projection the input is not masked.
///
/// Weights and biases are cast to the dtype of `x`. Source: He et al., 2015. Differentiable in all tensors.
///
/// # Panics
///
/// If the shapes do not match, a bias is missing, or there is a scale.
pub fn bottleneck(
    x: Tensor<4>,
    convs: [ConvParams; 3],
    projection: Option<Tensor<4>>,
    links: Links,
) -> Tensor<4> {
    let stride = convs[1].stride;
    check(&x, &convs, projection.as_ref(), links);
    let [first, second, third] = convs.map(|conv| {
        let bias = conv.bias.expect("bottleneck: each convolution has a bias");
        let (weight, bias) = (to_dtype_of(conv.weight, &x), to_dtype_of(bias, &x));
        (weight.into_dispatch(), bias.into_dispatch())
    });
    let has_projection = projection.is_some();
    let shortcut = projection.unwrap_or_else(|| x.clone());
    Tensor::from_dispatch(<Dispatch as BottleneckOps>::bottleneck(
        x.into_dispatch(),
        first.0,
        first.1,
        second.0,
        second.1,
        third.0,
        third.1,
        shortcut.into_dispatch(),
        stride,
        has_projection,
        links,
    ))
}

/// Panics for arguments that do not fit together, see [`bottleneck()`].
fn check(x: &Tensor<4>, convs: &[ConvParams; 3], projection: Option<&Tensor<4>>, links: Links) {
    assert!(
        projection.is_none() || !links.masks_input,
        "bottleneck: a projection uses the input, too, and does not mask its gradient"
    );
    let [n, channels, h, w] = x.dims();
    let (strides, mut inputs) = (convs.each_ref().map(|conv| conv.stride), channels);
    assert!(
        matches!(strides, [1, 1 | 2, 1]),
        "bottleneck: strides {strides:?} instead of 1, 1 or 2, 1"
    );
    for (conv, side) in convs.iter().zip([1, 3, 1]) {
        let [o, ..] = conv.weight.dims();
        assert_eq!(
            conv.weight.dims(),
            [o, inputs, side, side],
            "bottleneck: the weights of a {side}x{side} convolution of {inputs} channels"
        );
        let bias = conv.bias.as_ref().map(Tensor::dims);
        assert_eq!(bias, Some([o]), "bottleneck: a bias per output channel");
        assert!(
            conv.scale.is_none(),
            "bottleneck: scales must be folded into the weights"
        );
        inputs = o;
    }
    let output = [n, inputs, h.div_ceil(strides[1]), w.div_ceil(strides[1])];
    let shortcut = projection.unwrap_or(x);
    assert_eq!(
        (shortcut.dims(), shortcut.dtype()),
        (output, x.dtype()),
        "bottleneck: the shortcut must have the shape of the output and the dtype of x"
    );
}
