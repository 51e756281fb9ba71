//! CPU version of the top-down sum, f32.

use super::UpsampleOps;
use crate::cpu_memory::{contiguous, write};
use crate::features::cpu;
use crate::flex::{dims, floats};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, tensor::FloatTensor};

impl UpsampleOps for Flex {
    fn add_upsampled(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let top = top.to_contiguous();
        let mut lateral = contiguous(lateral);
        let [_, _, h, w] = dims(&lateral);
        cpu::upsample_add(lateral.storage_mut(), [h, w], floats(&top));
        lateral
    }

    fn upsampled_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let grad = grad.to_contiguous();
        let [n, c, h, w] = dims(&grad);
        write([n, c, h.div_ceil(2), w.div_ceil(2)], |gradient| {
            cpu::upsample_gradient(floats(&grad), [h, w], gradient);
        })
    }

    fn add_upsampled_gradient(
        gradient: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_add(gradient, Self::upsampled_gradient(grad))
    }
}
