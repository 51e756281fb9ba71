//! 1x1 convolution as a matrix product of pixels by channels.
//!
//! On devices with matrix units it is one kernel with its bias, residual and ReLU, and so is the gradient of its input
//! with the mask of the ReLU before it.

mod autodiff;
mod by_product;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;

pub(crate) use by_product::product;

use crate::links::Links;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Shape, Slice, Tensor};

/// The convolution as a backend operation; use [`conv1x1`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait Conv1x1Ops: Backend {
    /// `x [n, c, h, w]`, `weight [o, c, 1, 1]`, `bias [o]` -> `[n, o, h, w]`.
    #[fusion(dtype = x, shape = with_channels(x, weight[0]))]
    fn conv1x1(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        links: Links,
    ) -> FloatTensor<Self>;

    /// The same with `residual [n, o, h, w]` added before the ReLU.
    #[fusion(dtype = x, shape = residual)]
    fn conv1x1_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// The gradient `[n, c, h, w]` of the input from `grad [n, o, h, w]`.
    #[fusion(dtype = grad, shape = with_channels(grad, weight[1]))]
    fn conv1x1_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The same, masked by the input `x`, which is the output of a ReLU.
    #[fusion(dtype = grad, shape = x)]
    fn conv1x1_masked_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The same with `other [n, c, h, w]`, the gradient by another way, added before the mask if `is_masked`.
    #[fusion(dtype = grad, shape = x)]
    fn conv1x1_gradient_sum(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
        other: FloatTensor<Self>,
        is_masked: bool,
    ) -> FloatTensor<Self>;

    /// The gradient `[o, c, 1, 1]` of the weights; f32 on GPUs.
    #[fusion(dtype = DType::F32, shape = Shape::new([grad[1], x[1], 1, 1]))]
    fn conv1x1_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn with_channels(pixels: &Shape, channels: usize) -> Shape {
    Shape::new([pixels[0], channels, pixels[2], pixels[3]])
}

/// 1x1 convolution with bias, residual and ReLU in one kernel, on devices with matrix units for the dtype of `x`:
/// `[n, o, h', w']`, where `h'` is `ceil(h / stride)`.
pub(crate) fn conv1x1(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Option<Tensor<4>>,
    stride: usize,
    relu: bool,
    links: Links,
) -> Tensor<4> {
    assert!(
        links == Links::default() || residual.is_none() && stride == 1,
        "conv1x1: with a residual or a stride, masks are applied by the ReLUs"
    );
    let x = every(x, stride).into_dispatch();
    let (weight, bias) = (weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match residual {
        None => <Dispatch as Conv1x1Ops>::conv1x1(x, weight, bias, relu, links),
        Some(residual) => {
            let residual = residual.into_dispatch();
            <Dispatch as Conv1x1Ops>::conv1x1_with_residual(x, weight, bias, residual, relu)
        }
    })
}

/// Every `stride`-th row and column.
fn every(x: Tensor<4>, stride: usize) -> Tensor<4> {
    if stride == 1 {
        return x;
    }
    // Channels-last, as the output of a convolution is in memory.
    let every = Slice::with_step(0, None, stride as isize);
    let x = x.permute([0, 2, 3, 1]);
    (x.slice([Slice::full(), every, every, Slice::full()])).permute([0, 3, 1, 2])
}
