//! Epilogue of a convolution on GPUs: bias, residual and ReLU in one pass over its output.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) mod cube;
#[cfg(feature = "flex")]
mod flex;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

pub(crate) use autodiff::{bias_gradient, masked_gradient};

/// The epilogue as a backend operation; use [`epilogue`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait EpilogueOps: Backend {
    /// `x [n, c, h, w]` plus `bias [c]`, then `max(., 0)` if `relu`.
    #[fusion(dtype = x, shape = x)]
    fn epilogue(x: FloatTensor<Self>, bias: FloatTensor<Self>, relu: bool) -> FloatTensor<Self>;

    /// The same with `residual [n, c, h, w]` added before the ReLU.
    #[fusion(dtype = x, shape = x)]
    fn epilogue_with_residual(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// `grad [n, c, h, w]`, channels-last and dense. A view is copied once here, instead of by each kernel that reads
    /// it.
    #[fusion(dtype = grad, shape = grad)]
    fn dense_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `grad [n, c, h, w]` where the output of a ReLU is above 0 or NaN, otherwise 0.
    #[fusion(dtype = grad, shape = grad)]
    fn rectified_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `x` plus a bias and a residual, then `max(., 0)` if `relu`: `[n, c, h, w]`.
///
/// * `x` - `[n, c, h, w]`, overwritten if nothing else refers to it.
/// * `bias` - `[c]`.
/// * `residual` - `[n, c, h, w]`.
///
/// All of one dtype; differentiable in all three. On GPUs it is one pass that reads `x` and `residual` and writes the
/// result, channels-last.
///
/// # Panics
///
/// If the shapes or dtypes do not match.
pub fn epilogue(
    x: Tensor<4>,
    bias: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let [_, c, ..] = x.dims();
    assert_eq!(
        bias.dims(),
        [c],
        "epilogue: there must be one bias per channel"
    );
    assert_eq!(
        bias.dtype(),
        x.dtype(),
        "epilogue: the bias must have the dtype of x"
    );
    if let Some(residual) = &residual {
        assert_eq!(
            (residual.dims(), residual.dtype()),
            (x.dims(), x.dtype()),
            "epilogue: the residual must have the shape and dtype of x"
        );
    }
    let (x, bias) = (x.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match residual {
        None => <Dispatch as EpilogueOps>::epilogue(x, bias, relu),
        Some(residual) => <Dispatch as EpilogueOps>::epilogue_with_residual(
            x,
            bias,
            residual.into_dispatch(),
            relu,
        ),
    })
}
