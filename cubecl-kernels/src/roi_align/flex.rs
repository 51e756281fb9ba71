//! RoIAlign on flex, whose tensors are in host memory: the CPU version in f32.

use super::{RoiAlignOps, RoiAlignParams, cpu};
use crate::cpu_memory::contiguous;
use crate::dtype::cast;
use crate::flex::{dims, floats};
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_flex::FlexTensor;

impl RoiAlignOps for Flex {
    fn roi_records(
        rois: FloatTensor<Self>,
        _params: RoiAlignParams,
        _images: usize,
    ) -> IntTensor<Self> {
        // Locating the samples of an RoI takes much less time than reading them.
        reinterpret(contiguous_f32(rois), DType::I32)
    }

    fn roi_align(
        pyramid: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        let dtype = pyramid.dtype();
        let (pyramid, rois) = (contiguous_f32(pyramid), reinterpret(records, DType::F32));
        let [cells, channels] = dims(&pyramid);
        let shape = [super::images(cells, &params), channels];
        let pooled = cpu::forward(floats(&pyramid), shape, floats(&rois), &params);
        cast::<Self>(pooled, dtype)
    }

    fn roi_align_backward(
        grad: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> FloatTensor<Self> {
        let dtype = grad.dtype();
        let (grad, rois) = (contiguous_f32(grad), reinterpret(records, DType::F32));
        let gradient = cpu::backward(grad, floats(&rois), &params, images);
        cast::<Self>(gradient, dtype)
    }

    fn roi_align_accumulate(
        gradient: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let (grad, rois) = (contiguous_f32(grad), reinterpret(records, DType::F32));
        let gradient = cast::<Self>(gradient, DType::F32);
        cast::<Self>(accumulate(gradient, grad, &rois, &params), dtype)
    }
}

/// `gradient` plus that of RoIAlign, in place if nothing else refers to it.
fn accumulate(
    gradient: FlexTensor,
    grad: FlexTensor,
    rois: &FlexTensor,
    params: &RoiAlignParams,
) -> FlexTensor {
    let mut gradient = contiguous(gradient);
    let [cells, channels] = dims(&gradient);
    let shape = [super::images(cells, params), channels];
    cpu::accumulate(gradient.storage_mut(), shape, grad, floats(rois), params);
    gradient
}

fn contiguous_f32(tensor: FlexTensor) -> FlexTensor {
    cast::<Flex>(tensor, DType::F32).to_contiguous()
}

/// The same bits as another dtype of as many bytes, without a copy.
fn reinterpret(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    FlexTensor::from_arc(tensor.data_arc(), tensor.layout().clone(), dtype)
}
