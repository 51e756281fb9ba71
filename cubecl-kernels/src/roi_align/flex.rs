//! RoIAlign on flex, whose tensors are in host memory: the CPU version in f32.

use super::{RoiAlignOps, RoiAlignParams, cpu};
use crate::flex::floats;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Flex, tensor::FloatTensor};
use burn::tensor::{DType, FloatDType, Shape};
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
        cast(pooled, dtype)
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
        cast(gradient, dtype)
    }
}

fn cast(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if tensor.dtype() == dtype {
        tensor
    } else {
        Flex::float_cast(tensor, FloatDType::from(dtype))
    }
}

fn contiguous_f32(tensor: FlexTensor) -> FlexTensor {
    cast(tensor, DType::F32).to_contiguous()
}

fn dims<const D: usize>(shape: &Shape) -> [usize; D] {
    std::array::from_fn(|axis| shape[axis])
}
