//! The processor: Burn's own convolution, which is tiled and vectorised already.

use super::{Conv3x3Ops, burn_conv3x3, options};
use burn::backend::Flex;
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;

impl Conv3x3Ops for Flex {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        burn_conv3x3::<Self>(x, weight, bias, stride, relu)
    }

    fn conv3x3_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(x, weight, grad, options(stride))
    }

    fn conv3x3_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(x, weight, grad, options(stride))
    }
}
