//! Matching on the devices of CubeCL: wgpu and CUDA.

use super::kernel::{MatchingLaunch, UNITS, match_pass};
use super::{MatchOps, MatchThresholds};
use crate::launch::{buffer, buffer_or_unread, dense, empty, zeros};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;

impl MatchOps for CubeBackend {
    fn match_boxes(
        boxes: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self> {
        matches(boxes, None, gt, counts, thresholds)
    }
}

/// The matches of `boxes`; with their `scores [n, b]` also those of the ground truth, see
/// [`match_proposals`](fn@super::match_proposals).
pub(super) fn matches(
    boxes: CubeTensor,
    scores: Option<CubeTensor>,
    gt: CubeTensor,
    counts: CubeTensor,
    thresholds: MatchThresholds,
) -> CubeTensor {
    let [boxes, gt, counts] = [boxes, gt, counts].map(dense);
    let scores = scores.map(dense);
    let [n, slots] = [gt.shape()[0], gt.shape()[1]];
    let [box_sets, own] = [boxes.shape()[0], boxes.shape()[1]];
    let total = own + if scores.is_some() { slots } else { 0 };
    let matches = empty(&gt, [n, total], DType::I32);
    if n * total == 0 {
        return matches;
    }
    // Only low-quality matches need the highest IoU of each ground truth, which the first pass computes.
    let (best, passes) = match thresholds.allow_low_quality {
        true => (zeros(&gt, [n, slots], DType::I32), 0..2),
        false => (empty(&gt, [n, slots], DType::I32), 1..2),
    };
    for deciding in passes {
        let matching = MatchingLaunch {
            total: total as u32,
            boxes: own as u32,
            boxes_stride: if box_sets == 1 { 0 } else { own as u32 },
            slots: slots as u32,
            fg_iou: thresholds.fg_iou,
            bg_iou: thresholds.bg_iou,
            allow_low_quality: u32::from(thresholds.allow_low_quality),
            deciding,
        };
        launch(
            [&boxes, &gt, &counts, &best, &matches],
            scores.as_ref(),
            matching,
        );
    }
    matches
}

/// Launches one pass over `[boxes, gt, counts, best, matches]`.
fn launch(
    [boxes, gt, counts, best, matches]: [&CubeTensor; 5],
    scores: Option<&CubeTensor>,
    matching: MatchingLaunch,
) {
    let [n, total] = [matches.shape()[0], matches.shape()[1]];
    let has_scores = scores.is_some();
    let scores = buffer_or_unread(&gt.client, scores, [1, size_of::<u32>()]);
    // SAFETY: the buffers are dense and of the shapes in `matching`.
    unsafe {
        match_pass::launch_unchecked(
            &gt.client,
            CubeCount::Static(total.div_ceil(UNITS as usize) as u32, n as u32, 1),
            CubeDim::new_1d(UNITS),
            buffer(boxes),
            scores,
            buffer(gt),
            buffer(counts),
            buffer(best),
            buffer(matches),
            matching,
            has_scores,
        );
    }
}
