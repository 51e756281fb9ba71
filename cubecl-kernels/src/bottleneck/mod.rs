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

/// The bottleneck as a backend operation; use [`bottleneck`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait BottleneckOps: Backend + Conv1x1Ops + Conv3x3Ops {
    /// A bottleneck whose shortcut is `x [n, c, h, w]` itself.
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
        _links: Links,
    ) -> FloatTensor<Self> {
        let shortcut = x.clone();
        let x = Self::conv1x1(x, weight1, bias1, true, Links::default());
        let x = Self::conv3x3(x, weight2, bias2, 1, true, Links::default());
        Self::conv1x1_with_residual(x, weight3, bias3, shortcut, true)
    }

    /// A bottleneck with the output `[n, o, h', w']` of a projection as its shortcut.
    #[allow(clippy::too_many_arguments)]
    #[fusion(default)]
    fn bottleneck_with_projection(
        x: FloatTensor<Self>,
        weight1: FloatTensor<Self>,
        bias1: FloatTensor<Self>,
        weight2: FloatTensor<Self>,
        bias2: FloatTensor<Self>,
        weight3: FloatTensor<Self>,
        bias3: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        stride: usize,
        _links: Links,
    ) -> FloatTensor<Self> {
        let x = Self::conv1x1(x, weight1, bias1, true, Links::default());
        let x = Self::conv3x3(x, weight2, bias2, stride, true, Links::default());
        Self::conv1x1_with_residual(x, weight3, bias3, shortcut, true)
    }
}

/// `relu(conv3(relu(conv2(relu(conv1(x))))) + shortcut)`: `[n, o, h', w']` in the dtype of `x`, channels-last.
///
/// * `x` - `[n, c, h, w]`.
/// * `convs` - 1x1 with stride 1, 3x3 with a stride of 1 or 2, 1x1 with stride 1; all with a bias and without a scale.
/// * `projection` - the shortcut `[n, o, h', w']`; `x` without it, for which the stride must be 1.
/// * `links` - see [`Links`].
///
/// Source: He et al., 2015. Differentiable in all tensors.
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
    assert!(
        convs.iter().all(|conv| conv.scale.is_none()),
        "bottleneck: scales must be folded into the weights"
    );
    let [first, second, third] = convs.map(|conv| {
        let bias = conv.bias.expect("bottleneck: each convolution has a bias");
        let (weight, bias) = (to_dtype_of(conv.weight, &x), to_dtype_of(bias, &x));
        (weight.into_dispatch(), bias.into_dispatch())
    });
    let x = x.into_dispatch();
    Tensor::from_dispatch(match projection {
        None => {
            assert_eq!(stride, 1, "bottleneck: a stride needs a projection");
            <Dispatch as BottleneckOps>::bottleneck(
                x, first.0, first.1, second.0, second.1, third.0, third.1, links,
            )
        }
        Some(shortcut) => <Dispatch as BottleneckOps>::bottleneck_with_projection(
            x,
            first.0,
            first.1,
            second.0,
            second.1,
            third.0,
            third.1,
            shortcut.into_dispatch(),
            stride,
            links,
        ),
    })
}
