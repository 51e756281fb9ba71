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
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod strided;
#[cfg(all(test, feature = "flex", any(feature = "wgpu", feature = "cuda")))]
mod tests;

pub(crate) use by_product::convolve_by_product;

use crate::links::Links;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Shape, Slice, Tensor};

/// The convolution as a backend operation; use [`conv1x1`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait Conv1x1Ops: Backend {
    /// `x [n, c, h, w]`, `weight [o, c, 1, 1]` in the dtype of `x` or in f32, `bias [o]` -> `[n, o, h, w]`. The
    /// gradient alone depends on `links`.
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

    /// The gradient of `x [n, c, h, w]` from `grad [n, o, h, w]`. If `is_rectified`, `x` is the output of a ReLU, by
    /// which the gradient is masked; otherwise `x` is used for its shape only.
    #[fusion(dtype = grad, shape = x)]
    fn conv1x1_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
        is_rectified: bool,
    ) -> FloatTensor<Self>;

    /// [`Self::conv1x1_input_gradient`] plus `other [n, c, h, w]`, the gradient of `x` along another path, which is
    /// added before the mask.
    #[fusion(dtype = grad, shape = x)]
    fn conv1x1_gradient_sum(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
        other: FloatTensor<Self>,
        is_rectified: bool,
    ) -> FloatTensor<Self>;

    /// `sum [n, c, h, w]` plus `values [n, c, ceil(h / stride), ceil(w / stride)]` at every `stride`-th row and column:
    /// the gradient of [`subsample`] added to another one, in f32.
    #[fusion(dtype = sum, shape = sum)]
    fn add_to_subsample(
        sum: FloatTensor<Self>,
        values: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    /// The gradient `[o, c, 1, 1]` of the weights; f32.
    #[fusion(dtype = burn::tensor::DType::F32, shape = Shape::new([grad[1], x[1], 1, 1]))]
    fn conv1x1_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn with_channels(pixels: &Shape, channels: usize) -> Shape {
    Shape::new([pixels[0], channels, pixels[2], pixels[3]])
}

/// 1x1 convolution with bias, residual and ReLU in one kernel, on devices with matrix units for the dtype of `x`:
/// `[n, o, h', w']` in the dtype of `x`, where `h'` is `ceil(h / stride)`.
///
/// # Panics
///
/// If the shapes or dtypes do not match, or there are links together with a residual or a stride.
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
    let ([n, c, h, w], [o, inputs, kh, kw]) = (x.dims(), weight.dims());
    assert_eq!(
        (inputs, kh, kw),
        (c, 1, 1),
        "conv1x1: the weight for {c} channels must have the shape [o, {c}, 1, 1]"
    );
    assert_eq!(
        (bias.dims(), bias.dtype()),
        ([o], x.dtype()),
        "conv1x1: there must be one bias per output channel, of the dtype of x"
    );
    if let Some(residual) = &residual {
        let output = [n, o, h.div_ceil(stride), w.div_ceil(stride)];
        assert_eq!(
            (residual.dims(), residual.dtype()),
            (output, x.dtype()),
            "conv1x1: the residual must have the shape of the output and the dtype of x"
        );
    }
    let x = subsample_tensor(x, stride).into_dispatch();
    let (weight, bias) = (weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match residual {
        None => <Dispatch as Conv1x1Ops>::conv1x1(x, weight, bias, relu, links),
        Some(residual) => {
            let residual = residual.into_dispatch();
            <Dispatch as Conv1x1Ops>::conv1x1_with_residual(x, weight, bias, residual, relu)
        }
    })
}

/// Every `stride`-th row and column of `[n, c, h, w]`.
pub(crate) fn subsample<B: Backend>(x: FloatTensor<B>, stride: usize) -> FloatTensor<B> {
    if stride == 1 {
        return x;
    }
    // Channels-last, as the output of a convolution is in memory.
    let x = B::float_permute(x, &[0, 2, 3, 1]);
    let strided = Slice::with_step(0, None, stride as isize);
    let slices = [Slice::full(), strided, strided, Slice::full()];
    B::float_permute(B::float_slice(x, &slices), &[0, 3, 1, 2])
}

/// [`subsample`] of a tensor, with its graph.
fn subsample_tensor(x: Tensor<4>, stride: usize) -> Tensor<4> {
    Tensor::from_dispatch(subsample::<Dispatch>(x.into_dispatch(), stride))
}
