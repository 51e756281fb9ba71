//! RoIAlign on each backend: flex works on its buffers in place; the GPU backends copy to the host
//! and back for now, which gives the same numbers.

use super::{RoiAlignOps, RoiAlignParams, cpu};
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;

#[cfg(feature = "flex")]
mod flex {
    use super::*;
    use burn::backend::Flex;
    use burn_flex::FlexTensor;

    impl RoiAlignOps for Flex {
        fn roi_align(
            pyramid: FloatTensor<Self>,
            rois: FloatTensor<Self>,
            params: RoiAlignParams,
        ) -> FloatTensor<Self> {
            let pyramid = pyramid.to_contiguous();
            let rois = rois.to_contiguous();
            let shape = dims::<3>(pyramid.layout().shape());
            let pooled = cpu::forward(floats(&pyramid), shape, floats(&rois), &params);
            FlexTensor::from_data(pooled)
        }

        fn roi_align_backward(
            grad: FloatTensor<Self>,
            rois: FloatTensor<Self>,
            params: RoiAlignParams,
            images: usize,
        ) -> FloatTensor<Self> {
            let grad = grad.to_contiguous();
            let rois = rois.to_contiguous();
            let channels = grad.layout().shape()[1];
            let gradient = cpu::backward(floats(&grad), channels, floats(&rois), &params, images);
            FlexTensor::from_data(gradient)
        }
    }

    fn floats(tensor: &FlexTensor) -> &[f32] {
        let start = tensor.layout().start_offset();
        &tensor.storage::<f32>()[start..start + tensor.layout().num_elements()]
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube {
    use super::*;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::read_sync;
    use burn_cubecl::CubeBackend;

    impl RoiAlignOps for CubeBackend {
        fn roi_align(
            pyramid: FloatTensor<Self>,
            rois: FloatTensor<Self>,
            params: RoiAlignParams,
        ) -> FloatTensor<Self> {
            let device = pyramid.device.clone();
            let (pyramid, rois) = (read(pyramid), read(rois));
            let shape = dims::<3>(pyramid.shape());
            let pooled = cpu::forward(floats(&pyramid), shape, floats(&rois), &params);
            Self::float_from_data(pooled, &device)
        }

        fn roi_align_backward(
            grad: FloatTensor<Self>,
            rois: FloatTensor<Self>,
            params: RoiAlignParams,
            images: usize,
        ) -> FloatTensor<Self> {
            let device = grad.device.clone();
            let (grad, rois) = (read(grad), read(rois));
            let channels = grad.shape()[1];
            let gradient = cpu::backward(floats(&grad), channels, floats(&rois), &params, images);
            Self::float_from_data(gradient, &device)
        }
    }

    fn read(tensor: FloatTensor<CubeBackend>) -> TensorData {
        read_sync(CubeBackend::float_into_data(tensor)).expect("the device is alive")
    }

    fn floats(data: &TensorData) -> &[f32] {
        data.as_slice::<f32>()
            .expect("roi_align casts its inputs to f32")
    }
}

fn dims<const D: usize>(shape: &burn::tensor::Shape) -> [usize; D] {
    std::array::from_fn(|axis| shape[axis])
}
