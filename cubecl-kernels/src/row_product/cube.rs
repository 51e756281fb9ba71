//! The gradient of the weights on GPUs.

use super::RowProductOps;
use crate::launch::empty;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

impl RowProductOps for CubeBackend {
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
