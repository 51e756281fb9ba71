//! The gradient of the weights on GPUs.

use super::RowProductOps;
use crate::dtype::cast;
use crate::launch::empty;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

impl RowProductOps for CubeBackend {
    fn dense_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = cast::<Self>(weight, x.dtype);
        let ([rows, _], [outputs, _]) = (x.meta.shape().dims(), weight.meta.shape().dims());
        let (output, dtype) = (empty(&x, [rows, outputs], x.dtype), x.dtype);
        let weight = Self::float_transpose(weight);
        matmul(x, weight, Some(output), MatmulStrategy::default(), dtype)
            .expect("a product of two matrices has a kernel")
    }

    fn row_product_gradient(grad: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([_, outputs], [_, inputs]) = (grad.meta.shape().dims(), x.meta.shape().dims());
        // Dense, because Burn's own output has padded rows on CUDA, which the optimizer would copy.
        let gradient = empty(&grad, [outputs, inputs], DType::F32);
        let grad = Self::float_transpose(grad);
        matmul(
            grad,
            x,
            Some(gradient),
            MatmulStrategy::default(),
            DType::F32,
        )
        .expect("a product of two matrices has a kernel")
    }
}
