//! Products of rows with a matrix of weights, as in linear layers and 1x1 convolutions.
//!
//! With Burn's operations, the gradient of the weights is computed transposed, so that a copy must follow; in f16 it is
//! also rounded to f16 and cast to f32 after that. Here it is one product with a result in the dtype of the weights.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use crate::dtype::to_dtype_of;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, Tensor};

/// The product as a backend operation; use [`linear`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait RowProductOps: Backend {
    /// `x [r, c]` and `weight [o, c]` -> `[r, o]`, in the dtype of `x`.
    #[fusion(default)]
    fn row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = cast::<Self>(weight, x.dtype());
        Self::float_matmul(x, Self::float_transpose(weight))
    }

    /// The gradient `[o, c]` of the weights in `dtype`, from `grad [r, o]` and `x [r, c]`; sums are f32.
    #[fusion(dtype = *dtype, shape = weights(grad, x))]
    fn row_product_gradient(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        dtype: DType,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
fn weights(grad: &Shape, x: &Shape) -> Shape {
    Shape::new([grad[1], x[1]])
}

fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    match tensor.dtype() == dtype {
        true => tensor,
        false => B::float_cast(tensor, dtype.into()),
    }
}

/// `x [r, c]` times the transposed `weight [o, c]`: `[r, o]`, in the dtype of `x`; differentiable in both.
pub(crate) fn row_product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as RowProductOps>::row_product(x, weight))
}

/// Fully connected layer, on any device.
///
/// * `x` - `[r, c]`.
/// * `weight`, `bias` - `[o, c]` and `[o]`, in the dtype of `x` or f32.
///
/// Returns `[r, o]` in the dtype of `x`; differentiable in all three.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let bias = to_dtype_of(bias, &x).unsqueeze();
    if crate::has_selection_kernels(&x.device()) {
        return row_product(x, weight) + bias;
    }
    let weight = to_dtype_of(weight, &x);
    x.matmul(weight.transpose()) + bias
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn product_and_gradients_are_those_of_matmul() {
        let device = Device::flex().autodiff();
        let random = |shape| Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
        for [rows, inputs, outputs] in [[7, 5, 3], [1, 1, 1], [64, 9, 130]] {
            let (x, weight) = (random([rows, inputs]), random([outputs, inputs]));
            let factors = random([rows, outputs]);
            let of = |product: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                let (x, weight) = (
                    x.clone().detach().require_grad(),
                    weight.clone().detach().require_grad(),
                );
                let output = product(x.clone(), weight.clone());
                let gradients = (output.clone() * factors.clone()).sum().backward();
                let [of_x, of_weight] =
                    [&x, &weight].map(|it| it.grad(&gradients).expect("a gradient"));
                [output.inner(), of_x, of_weight]
            };
            let found = of(row_product);
            let wanted = of(|x, weight| x.matmul(weight.transpose()));
            for (found, wanted) in found.into_iter().zip(wanted) {
                assert_eq!(found.dims(), wanted.dims());
                let difference = (found - wanted).abs().max().into_scalar::<f32>();
                // Sums of up to 130 products of numbers below 1, in another order.
                assert!(difference < 1e-4, "{rows} x {inputs}: {difference}");
            }
        }
    }
}
