//! 3x3 convolution with padding 1.
//!
//! The kernels of this module are implicit GEMMs of pixels by channels on channels-last data, with tiles in shared
//! memory and a block of outputs in the registers of each unit. Sums are f32 for every dtype, in a fixed order, so
//! two runs of these kernels are bit-equal. They replace Burn's direct kernel, which reads every operand from global
//! memory, on devices whose matrix units Burn cannot use (all of WebGPU, f32 on older GPUs). With matrix units,
//! autotune selects the fastest of them and CubeK's implicit GEMMs for the output and the gradient of the input, and
//! the gradient of the weights is a batched matrix product, whose launches also sum the gradient of the bias.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod access;
mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod channel_sums;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod fused;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod layer;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod own;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod packing;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod places;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod product;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod spread;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod tiling;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod tuned;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod weight_gradient;

use crate::epilogue::bias_gradient;
use crate::links::Links;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor};

/// The convolution as a backend operation; use [`conv3x3`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait Conv3x3Ops: Backend {
    /// `x [n, c, h, w]`, `weight [o, c, 3, 3]`, `bias [o]` -> `[n, o, h', w']`. The gradient alone depends on `links`.
    #[fusion(dtype = x, shape = output_shape(x, weight, stride))]
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
        links: Links,
    ) -> FloatTensor<Self>;

    /// The gradient of `x` from `grad [n, o, h', w']`. If `is_rectified`, `x` is the output of a ReLU, by which the
    /// gradient is masked; otherwise `x` is used for its shape only.
    #[fusion(dtype = grad, shape = x)]
    fn conv3x3_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        is_rectified: bool,
    ) -> FloatTensor<Self>;

    /// The gradient of `weight`, which is used for its shape only, from `grad [n, o, h', w']`.
    #[fusion(dtype = grad, shape = weight)]
    fn conv3x3_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    /// The gradients of `weight`, as [`Self::conv3x3_weight_gradient`], and of the bias: `[o, c, 3, 3]` and `[o]`.
    #[fusion(meta = |_x, weight, grad, _stride| gradient_specs(weight, grad))]
    fn conv3x3_parameter_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// 3x3 convolution with padding 1, then `max(., 0)` if `relu`: `[n, o, h', w']`.
///
/// * `x` - `[n, c, h, w]`.
/// * `weight` - `[o, c, 3, 3]`.
/// * `bias` - `[o]`.
/// * `stride` - 1 or 2; `h'` is `ceil(h / stride)`.
///
/// All tensors have one dtype: f32, f16 or bf16. Equals `conv2d` with torch's layout of the weights, and is differentiable in all three
/// tensors. On GPUs the output of every convolution is channels-last, which is also the fastest layout of `x`.
///
/// # Panics
///
/// If the shapes or dtypes do not match, or `stride` is neither 1 nor 2.
pub fn conv3x3(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    relu: bool,
) -> Tensor<4> {
    conv3x3_linked(x, weight, bias, stride, relu, Links::default())
}

/// [`conv3x3`] whose gradient applies the masks of ReLUs as specified by `links`.
pub(crate) fn conv3x3_linked(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    relu: bool,
    links: Links,
) -> Tensor<4> {
    let [_, c, ..] = x.dims();
    let [o, inputs, kh, kw] = weight.dims();
    assert_eq!(
        (inputs, kh, kw),
        (c, 3, 3),
        "conv3x3: the weight for {c} channels must have the shape [o, {c}, 3, 3], not {:?}",
        weight.dims()
    );
    assert!(
        stride == 1 || stride == 2,
        "conv3x3: the stride is {stride}; use 1 or 2"
    );
    let dtype = x.dtype();
    let bias = bias.unwrap_or_else(|| zeros_like(&x, o));
    assert_eq!(
        bias.dims(),
        [o],
        "conv3x3: the bias must have one value per output channel"
    );
    assert_eq!(
        (weight.dtype(), bias.dtype()),
        (dtype, dtype),
        "conv3x3: weight and bias must have the dtype of x"
    );
    Tensor::from_dispatch(<Dispatch as Conv3x3Ops>::conv3x3(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        stride,
        relu,
        links,
    ))
}

fn zeros_like(x: &Tensor<4>, channels: usize) -> Tensor<1> {
    Tensor::zeros([channels], (&x.device(), x.dtype()))
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn output_shape(x: &Shape, weight: &Shape, stride: &usize) -> Shape {
    Shape::new([
        x[0],
        weight[0],
        x[2].div_ceil(*stride),
        x[3].div_ceil(*stride),
    ])
}

#[cfg(feature = "fusion")]
fn gradient_specs(weight: &TensorSpec, grad: &TensorSpec) -> (TensorSpec, TensorSpec) {
    let bias = Shape::new([weight.shape[0]]);
    (
        TensorSpec::new(weight.shape.clone(), grad.dtype),
        TensorSpec::new(bias, grad.dtype),
    )
}

/// The gradients of weights and bias, each by an operation of its own.
fn separate_gradients<B: Conv3x3Ops>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    stride: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let gradient = B::conv3x3_weight_gradient(x, weight, grad.clone(), stride);
    (gradient, bias_gradient::<B>(grad))
}
