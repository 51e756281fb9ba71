//! Products with dense rows, and the gradient of the weights, on GPUs.

use super::{RowProductOps, is_small};
use crate::capability::has_matrix_units;
use crate::dtype::cast;
use crate::launch::{empty, zeros};
use crate::launches::problem;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

impl RowProductOps for CubeBackend {
    fn dense_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = cast::<Self>(weight, x.dtype);
        let ([rows, _], [outputs, _]) = (x.meta.shape().dims(), weight.meta.shape().dims());
        let inputs = x.meta.shape()[1];
        let _problem = problem(|| format!("product of {rows}x{inputs} and {inputs}x{outputs}"));
        let (output, dtype) = (empty(&x, [rows, outputs], x.dtype), x.dtype);
        let weight = Self::float_transpose(weight);
        matmul(x, weight, Some(output), MatmulStrategy::default(), dtype)
            .expect("a product of two matrices has a kernel")
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
        let strategy = match has_units && is_small([rows, outputs, inputs]) {
            true => MatmulStrategy::Cube,
            false => MatmulStrategy::default(),
        };
        let grad = Self::float_transpose(grad);
        matmul(grad, x, Some(gradient), strategy, DType::F32)
            .expect("a product of two matrices has a kernel")
    }
}
