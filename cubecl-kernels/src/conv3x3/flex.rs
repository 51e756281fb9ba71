//! CPU version: the crate's kernels in f32, Burn's convolution in other dtypes.

use super::{Conv3x3Ops, burn_conv3x3, options, separate_gradients};
use crate::conv::flex::{forward, input_gradient, weight_gradient};
use crate::epilogue::EpilogueOps;
use crate::links::Links;
use burn::backend::Flex;
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;

impl Conv3x3Ops for Flex {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
        _links: Links,
    ) -> FloatTensor<Self> {
        if x.dtype() == DType::F32 {
            return forward(x, [weight, bias], None, None, stride, relu);
        }
        burn_conv3x3::<Self>(x, weight, bias, stride, relu)
    }

    fn conv3x3_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        is_rectified: bool,
    ) -> FloatTensor<Self> {
        let rectified = is_rectified.then(|| x.clone());
        let gradient = match x.dtype() {
            DType::F32 => {
                let size = [x.layout().shape()[2], x.layout().shape()[3]];
                input_gradient(weight, None, grad, 1, size, stride)
            }
            _ => Self::conv2d_x_backward(x, weight, grad, options(stride)),
        };
        match rectified {
            Some(output) => Self::rectified_gradient(output, gradient),
            None => gradient,
        }
    }

    fn conv3x3_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        if x.dtype() == DType::F32 {
            return weight_gradient(x, grad, 1, 3, stride);
        }
        Self::conv2d_weight_backward(x, weight, grad, options(stride))
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
