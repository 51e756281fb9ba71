//! CPU version by Burn's operations: for tests, and for the gradient of group norm in f16 and bf16.

use super::EpilogueOps;
use burn::backend::Flex;
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::backend::{TensorMetadata, tensor::FloatTensor};
use burn::tensor::Shape;

impl EpilogueOps for Flex {
    fn epilogue(x: FloatTensor<Self>, bias: FloatTensor<Self>, relu: bool) -> FloatTensor<Self> {
        let channels = bias.shape()[0];
        let bias = Self::float_reshape(bias, Shape::new([1, channels, 1, 1]));
        let sum = Self::float_add(x, bias);
        if relu { Self::relu(sum) } else { sum }
    }

    fn epilogue_with_residual(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        Self::epilogue(Self::float_add(x, residual), bias, relu)
    }

    fn dense_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        grad
    }

    fn rectified_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::relu_backward(output, grad)
    }
}
