//! RoIAlign on flex, whose tensors are in host memory: the CPU version in f32.

use super::{RoiAlignOps, RoiAlignParams, cpu};
use crate::dtype::cast;
use crate::flex::floats;
use burn::backend::{Flex, tensor::FloatTensor};
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

impl RoiAlignOps for Flex {
    fn roi_align(
        pyramid: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        let dtype = pyramid.dtype();
        let (pyramid, rois) = (contiguous_f32(pyramid), contiguous_f32(rois));
        let shape = dims::<3>(pyramid.layout().shape());
        let pooled = cpu::forward(floats(&pyramid), shape, floats(&rois), &params);
        cast::<Self>(pooled, dtype)
    }

    fn roi_align_backward(
        grad: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> FloatTensor<Self> {
        let dtype = grad.dtype();
        let (grad, rois) = (contiguous_f32(grad), contiguous_f32(rois));
        let gradient = cpu::backward(grad, floats(&rois), &params, images);
        cast::<Self>(gradient, dtype)
    }
}

fn contiguous_f32(tensor: FlexTensor) -> FlexTensor {
    cast::<Flex>(tensor, DType::F32).to_contiguous()
}

fn dims<const D: usize>(shape: &Shape) -> [usize; D] {
    std::array::from_fn(|axis| shape[axis])
}
