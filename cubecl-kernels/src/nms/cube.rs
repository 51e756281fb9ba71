//! Suppression on the devices of CubeCL: wgpu and CUDA.

use super::NmsOps;
use super::kernel::{BITS, ROWS, WORDS, find_overlaps, suppress};
use crate::launch::{buffer, dense, empty};
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

impl NmsOps for CubeBackend {
    fn nms_sorted(
        boxes: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        iou_threshold: f64,
    ) -> FloatTensor<Self> {
        let [boxes, scores] = [boxes, scores].map(dense);
        let [groups, k] = [scores.shape()[0], scores.shape()[1]];
        let kept = empty(&scores, [groups, k], DType::F32);
        if groups * k == 0 {
            return kept;
        }
        let words = k.div_ceil(BITS as usize);
        let overlaps = empty(&scores, [groups, k, words], DType::U32);
        let blocks = k.div_ceil(ROWS as usize);
        // SAFETY: the buffers are dense and of the shapes that the kernels are given.
        unsafe {
            find_overlaps::launch_unchecked(
                &scores.client,
                CubeCount::Static(words as u32, blocks as u32, groups as u32),
                CubeDim::new_1d(ROWS),
                buffer(&boxes),
                buffer(&scores),
                buffer(&overlaps),
                round_down(iou_threshold),
                k as u32,
                words as u32,
            );
            suppress::launch_unchecked(
                &scores.client,
                CubeCount::Static(groups as u32, 1, 1),
                CubeDim::new_1d(WORDS),
                buffer(&overlaps),
                buffer(&scores),
                buffer(&kept),
                k as u32,
                words as u32,
            );
        }
        kept
    }
}

/// The largest f32 that is not above `threshold`. An f32 ratio is above it if and only if it is above `threshold`,
/// because there is no f32 between the two.
fn round_down(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if nearest as f64 > threshold {
        nearest.next_down()
    } else {
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::round_down;

    #[test]
    fn no_f32_lies_between_a_threshold_and_its_rounding() {
        for threshold in [0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 1.0, 1e-60, -1e-60, 1e60] {
            let rounded = round_down(threshold);
            assert!(rounded as f64 <= threshold);
            assert!(rounded.next_up() as f64 > threshold);
        }
        assert!(round_down(f64::NAN).is_nan());
    }
}
