//! Greedy non-maximum suppression: on host slices with results of any length, and on the device in groups of fixed
//! slots.

mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;

pub(crate) use cpu::overlap;
pub use cpu::{batched_nms, nms};

use crate::capability::{MAX_TOP_K, can_select, has_selection_kernels};
use crate::dtype::to_f32;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// Suppression as a backend operation; use [`nms_sorted`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait NmsOps: Backend {
    /// `boxes [g, k, 4]`, `scores [g, k]` -> scores `[g, k]`.
    #[fusion(dtype = scores, shape = scores)]
    fn nms_sorted(
        boxes: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        iou_threshold: f64,
    ) -> FloatTensor<Self>;
}

impl<B: Backend + NmsOps, C: CheckpointStrategy> NmsOps for Autodiff<B, C> {
    fn nms_sorted(
        boxes: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        iou_threshold: f64,
    ) -> FloatTensor<Self> {
        let (boxes, scores) = (boxes.into_primitive(), scores.into_primitive());
        Self::from_inner(B::nms_sorted(boxes, scores, iou_threshold))
    }
}

/// The scores of the kept slots in each group, and minus infinity for suppressed and empty slots.
///
/// * `boxes` - `[g, k, 4]`: `x1, y1, x2, y2`, finite, in any unit; `k` at most `MAX_TOP_K` on a GPU.
/// * `scores` - `[g, k]`, slots best first as returned by `top_k_segments`. Only the order of the slots matters; scores
///   only mark empty slots, by minus infinity or NaN. Empty slots are not kept and suppress nothing.
/// * `iou_threshold` - as in [`nms`]: a box is suppressed if its IoU with a better kept box is *greater*. A NaN ratio,
///   of two boxes without area, suppresses nothing.
///
/// Not differentiable. Backends agree if division is correctly rounded (CUDA, lavapipe, CPU); WebGPU allows an error of
/// 2.5 units in the last place of the ratio.
///
/// # Panics
///
/// If the shapes do not match.
pub fn nms_sorted(boxes: Tensor<3>, scores: Tensor<2>, iou_threshold: f64) -> Tensor<2> {
    let [groups, k] = scores.dims();
    assert_eq!(
        boxes.dims(),
        [groups, k, 4],
        "boxes and scores must have one entry per slot"
    );
    assert!(
        can_select(&scores.device(), &[k])
            && (groups <= u16::MAX as usize || !has_selection_kernels(&scores.device())),
        "{groups} groups of {k} slots; at most 65535 groups of {MAX_TOP_K} on a GPU"
    );
    let kept = <Dispatch as NmsOps>::nms_sorted(
        to_f32(boxes).into_dispatch(),
        to_f32(scores).into_dispatch(),
        iou_threshold,
    );
    Tensor::from_dispatch(kept)
}
