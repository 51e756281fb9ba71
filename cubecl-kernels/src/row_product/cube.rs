//! Products with dense rows, and the gradient of the weights, on GPUs.

use super::{RowProductOps, is_small};
use crate::capability::{has_matrix_units, products_are_preset};
use crate::dtype::cast;
use crate::launch::{empty, zeros};
use crate::launches::problem;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;

impl RowProductOps for CubeBackend {
    fn dense_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        product(x, weight, MatmulStrategy::default())
    }

    fn preset_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        product(x, weight, MatmulStrategy::Cube)
    }

    fn row_product_gradient(grad: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([_, outputs], [_, inputs]) = (grad.meta.shape().dims(), x.meta.shape().dims());
        let [rows, _] = grad.meta.shape().dims();
        if rows == 0 {
            return zeros(&grad, [outputs, inputs], DType::F32);
        }
        let _problem =
            problem(|| format!("gradient of weights {outputs}x{inputs} over {rows} rows"));
        // Dense, because Burn's own output has padded rows on CUDA, which the optimizer would copy.
        let gradient = empty(&grad, [outputs, inputs], DType::F32);
        let has_units = has_matrix_units(&grad.client, grad.dtype);
        // A small product is not tuned, see the module's documentation.
        let is_preset = has_units && is_small([rows, outputs, inputs])
            || products_are_preset(&grad.device, grad.dtype);
        let strategy = match is_preset {
            true => MatmulStrategy::Cube,
            false => MatmulStrategy::default(),
        };
        let grad = Self::float_transpose(grad);
        matmul(grad, x, Some(gradient), strategy, DType::F32)
            .expect("a product of two matrices has a kernel")
    }
}

/// Dense rows of `x [r, c]` times the transposed `weight [o, c]`.
fn product(x: CubeTensor, weight: CubeTensor, strategy: MatmulStrategy) -> CubeTensor {
    let weight = cast::<CubeBackend>(weight, x.dtype);
    let ([rows, inputs], [outputs, _]) = (x.meta.shape().dims(), weight.meta.shape().dims());
    let (output, dtype) = (empty(&x, [rows, outputs], x.dtype), x.dtype);
    // Only tuning looks for products without elements.
    if rows == 0 {
        return output;
    }
    let _problem = problem(|| format!("product of {rows}x{inputs} and {inputs}x{outputs}"));
    let weight = CubeBackend::float_transpose(weight);
    matmul(x, weight, Some(output), strategy, dtype)
        .expect("a product of two matrices has a kernel")
}
