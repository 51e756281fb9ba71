//! CPU version: the crate's kernels in f32, with results rounded to the dtype of the input or gradient.

use super::{Conv3x3Ops, separate_gradients};
use crate::conv::flex::{forward, input_gradient, weight_gradient};
use crate::dtype::cast;
use crate::epilogue::EpilogueOps;
use crate::flex::to_f32;
use crate::links::Links;
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

impl Conv3x3Ops for Flex {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
        _links: Links,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let [x, weight, bias] = to_f32([x, weight, bias]);
        let output = forward(x, [weight, bias], None, None, stride, relu);
        cast::<Self>(output, dtype)
    }

    fn conv3x3_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        is_rectified: bool,
    ) -> FloatTensor<Self> {
        let dtype = grad.dtype();
        let [weight, grad] = to_f32([weight, grad]);
        let size = [x.layout().shape()[2], x.layout().shape()[3]];
        let gradient = cast::<Self>(input_gradient(weight, None, grad, 1, size, stride), dtype);
        match is_rectified {
            true => Self::rectified_gradient(x, gradient),
            false => gradient,
        }
    }

    fn conv3x3_weight_gradient(
        x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let dtype = grad.dtype();
        let [x, grad] = to_f32([x, grad]);
        cast::<Self>(weight_gradient(x, grad, 1, 3, stride), dtype)
    }

    fn conv3x3_parameter_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        separate_gradients::<Self>(x, weight, grad, stride)
    }
}
