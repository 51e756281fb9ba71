//! CPU version by Burn's operations, for tests.

use super::Conv1x1Ops;
use crate::dtype::cast;
use crate::epilogue::EpilogueOps;
use crate::links::Links;
use burn::backend::Flex;
use burn::backend::ops::{FloatTensorOps, ModuleOps};
use burn::backend::{TensorMetadata, tensor::FloatTensor};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Shape, Slice};
use burn_flex::FlexTensor;

fn options() -> ConvOptions<2> {
    ConvOptions::new([1, 1], [0, 0], [1, 1], 1)
}

fn input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let weight = cast::<Flex>(weight, grad.dtype());
    let transposed = Flex::float_swap_dims(weight, 0, 1);
    Flex::conv2d(grad, transposed, None, options())
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
        x: FloatTensor<Self>,
        is_rectified: bool,
    ) -> FloatTensor<Self> {
        let gradient = input_gradient(grad, weight);
        match is_rectified {
            true => Self::rectified_gradient(x, gradient),
            false => gradient,
        }
    }

    fn conv1x1_gradient_sum(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
        other: FloatTensor<Self>,
        is_rectified: bool,
    ) -> FloatTensor<Self> {
        let sum = Self::float_add(input_gradient(grad, weight), other);
        match is_rectified {
            true => Self::rectified_gradient(x, sum),
            false => sum,
        }
    }

    fn add_to_subsample(
        sum: FloatTensor<Self>,
        values: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let strided = Slice::with_step(0, None, stride as isize);
        let slices = [Slice::full(), Slice::full(), strided, strided];
        let selected = Self::float_slice(sum.clone(), &slices);
        Self::float_slice_assign(sum, &slices, Self::float_add(selected, values))
    }

    fn conv1x1_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([_, c, ..], [_, o, ..]) = (x.shape().dims::<4>(), grad.shape().dims::<4>());
        let shape = Shape::new([o, c, 1, 1]);
        let like = Self::float_zeros(shape, &Default::default(), x.dtype().into());
        cast::<Self>(
            Self::conv2d_weight_backward(x, like, grad, options()),
            DType::F32,
        )
    }
}
