//! CPU version by Burn's operations, for tests.

use super::Conv1x1Ops;
use crate::dtype::cast;
use crate::epilogue::EpilogueOps;
use crate::links::Links;
use burn::backend::Flex;
use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::{TensorMetadata, tensor::FloatTensor};
use burn::tensor::DType;
use burn::tensor::ops::ConvOptions;

fn options() -> ConvOptions<2> {
    ConvOptions::new([1, 1], [0, 0], [1, 1], 1)
}

impl Conv1x1Ops for Flex {
    fn conv1x1(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        _links: Links,
    ) -> FloatTensor<Self> {
        let weight = cast::<Self>(weight, x.dtype());
        Self::epilogue(Self::conv2d(x, weight, None, options()), bias, relu)
    }

    fn conv1x1_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let weight = cast::<Self>(weight, x.dtype());
        let output = Self::conv2d(x, weight, None, options());
        Self::epilogue_with_residual(output, bias, residual, relu)
    }

    fn conv1x1_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let weight = cast::<Self>(weight, grad.dtype());
        Self::conv2d(grad, Self::float_swap_dims(weight, 0, 1), None, options())
    }

    fn conv1x1_masked_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::rectified_gradient(x, Self::conv1x1_input_gradient(grad, weight))
    }

    fn conv1x1_gradient_sum(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
        other: FloatTensor<Self>,
        is_masked: bool,
    ) -> FloatTensor<Self> {
        let sum = Self::float_add(Self::conv1x1_input_gradient(grad, weight), other);
        match is_masked {
            true => Self::rectified_gradient(x, sum),
            false => sum,
        }
    }

    fn conv1x1_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([_, c, ..], [_, o, ..]) = (x.shape().dims::<4>(), grad.shape().dims::<4>());
        let shape = burn::tensor::Shape::new([o, c, 1, 1]);
        let like = Self::float_zeros(shape, &Default::default(), x.dtype().into());
        cast::<Self>(
            Self::conv2d_weight_backward(x, like, grad, options()),
            DType::F32,
        )
    }
}
