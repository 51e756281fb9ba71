//! Matching on the devices of CubeCL: wgpu and CUDA.

use super::kernel::{MatchingLaunch, UNITS, match_pass};
use super::{MatchOps, MatchThresholds};
use crate::launch::{buffer, dense, empty, zeros};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

impl MatchOps for CubeBackend {
    fn match_boxes(
        boxes: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self> {
        let [boxes, gt, counts] = [boxes, gt, counts].map(dense);
        let [n, slots] = [gt.shape()[0], gt.shape()[1]];
        let [runs, total] = [boxes.shape()[0], boxes.shape()[1]];
        let best = zeros(&gt, [n, slots], DType::I32);
        let matches = empty(&gt, [n, total], DType::I32);
        if n * total == 0 {
            return matches;
        }
        for deciding in [0, 1] {
            let matching = MatchingLaunch {
                total: total as u32,
                boxes_stride: if runs == 1 { 0 } else { total as u32 },
                slots: slots as u32,
                fg_iou: thresholds.fg_iou,
                bg_iou: thresholds.bg_iou,
                allow_low_quality: u32::from(thresholds.allow_low_quality),
                deciding,
            };
            // SAFETY: the buffers are dense and of the shapes in `matching`.
            unsafe {
                match_pass::launch_unchecked(
                    &gt.client,
                    CubeCount::Static(total.div_ceil(UNITS as usize) as u32, n as u32, 1),
                    CubeDim::new_1d(UNITS),
                    buffer(&boxes),
                    buffer(&gt),
                    buffer(&counts),
                    buffer(&best),
                    buffer(&matches),
                    matching,
                );
            }
        }
        matches
    }
}
