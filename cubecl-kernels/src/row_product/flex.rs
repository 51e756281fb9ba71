//! Products and the gradient of the weights on the CPU, for tests.

use super::RowProductOps;
use crate::dtype::cast;
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;

impl RowProductOps for Flex {
    fn dense_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::row_product(x, weight)
    }

    fn preset_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::row_product(x, weight)
    }

    fn row_product_gradient(grad: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        cast::<Self>(
            Self::float_matmul(Self::float_transpose(grad), x),
            DType::F32,
        )
    }
}
