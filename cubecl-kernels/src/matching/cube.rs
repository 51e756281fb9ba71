//! Matching on the devices of CubeCL: wgpu and CUDA.

use super::kernel::{UNITS, match_pass};
use super::{MatchOps, MatchThresholds};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::{empty_device_dtype, zeros_client};
use burn_cubecl::{CubeBackend, kernel::into_contiguous};
use cubecl::prelude::*;

impl MatchOps for CubeBackend {
    fn match_boxes(
        boxes: FloatTensor<Self>,
        truth: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self> {
        let [boxes, truth, counts] = [boxes, truth, counts].map(into_contiguous);
        let client = truth.client.clone();
        let [n, slots] = [truth.shape()[0], truth.shape()[1]];
        let [pictures, total] = [boxes.shape()[0], boxes.shape()[1]];
        let device = truth.device.clone();
        let best = zeros_client(
            client.clone(),
            device.clone(),
            Shape::new([n, slots]),
            DType::I32,
        );
        let matches =
            empty_device_dtype(client.clone(), device, Shape::new([n, total]), DType::I32);
        if n * total == 0 {
            return matches;
        }
        for deciding in [0, 1] {
            // SAFETY: the buffers are contiguous and of the shapes that the kernel is told.
            unsafe {
                match_pass::launch_unchecked(
                    &client,
                    CubeCount::Static(total.div_ceil(UNITS as usize) as u32, n as u32, 1),
                    CubeDim::new_1d(UNITS),
                    boxes.clone().into_buffer_arg(),
                    truth.clone().into_buffer_arg(),
                    counts.clone().into_buffer_arg(),
                    best.clone().into_buffer_arg(),
                    matches.clone().into_buffer_arg(),
                    total as u32,
                    if pictures == 1 { 0 } else { total as u32 },
                    slots as u32,
                    thresholds.fg_iou,
                    thresholds.bg_iou,
                    u32::from(thresholds.allow_low_quality),
                    deciding,
                );
            }
        }
        matches
    }
}
