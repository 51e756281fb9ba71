//! Matching boxes to ground truth by IoU (Faster R-CNN, section 3.1.2), on the device.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
mod proposals;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod proposals_cube;
#[cfg(all(test, feature = "flex"))]
mod tests;

#[cfg(feature = "flex")]
pub use flex::match_by;
pub use proposals::match_proposals;

use crate::dtype::to_f32;
use crate::nms::overlap;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, IntDType, Tensor};

/// IoU of boxes `[x1, y1, x2, y2]`; NaN if both have no area, as in torchvision's `box_iou`.
#[inline]
pub fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    overlap(a, area(a), b, area(b))
}

/// Result of [`match_boxes`] for background.
pub const BACKGROUND: i32 = -1;

/// Result of [`match_boxes`] for a box between the thresholds.
pub const IGNORED: i32 = -2;

/// IoU thresholds of objects and background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatchThresholds {
    /// Minimum IoU of an object.
    pub fg_iou: f32,
    /// Boxes with a smaller IoU are background.
    pub bg_iou: f32,
    /// Whether each ground truth is also matched to the boxes with its highest IoU, even below the thresholds.
    pub allow_low_quality: bool,
}

/// Matching as a backend operation; use [`match_boxes`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait MatchOps: Backend {
    /// `[n, b]`; inputs as in [`match_boxes`].
    #[fusion(meta = output_spec)]
    fn match_boxes(
        boxes: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self>;
}

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;

#[cfg(feature = "fusion")]
fn output_spec(
    boxes: &TensorSpec,
    gt: &TensorSpec,
    _counts: &TensorSpec,
    _thresholds: &MatchThresholds,
) -> TensorSpec {
    let shape = [gt.shape[0], boxes.shape[1]];
    TensorSpec::new(shape.into(), burn::tensor::DType::I32)
}

impl<B: Backend + MatchOps, C: CheckpointStrategy> MatchOps for Autodiff<B, C> {
    fn match_boxes(
        boxes: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self> {
        B::match_boxes(
            boxes.into_primitive(),
            gt.into_primitive(),
            counts,
            thresholds,
        )
    }
}

/// Matches each box to the ground truth of its image with the highest IoU.
///
/// * `boxes` - `[n, b, 4]`, or `[1, b, 4]` for all images, in pixels.
/// * `gt` - `[n, t, 4]`, of which the first `counts [n]` are valid.
///
/// Returns `[n, b]`: the index of an object, [`BACKGROUND`] or [`IGNORED`]. For equal IoUs the first
/// ground truth is used. IoUs are computed tile by tile, twice for low-quality matches, and not stored as a matrix,
/// because 300,000 anchors times hundreds of objects would not fit in memory. Boxes must have finite corners with
/// `x2 >= x1` and `y2 >= y1`; boxes without area do not overlap.
///
/// # Panics
///
/// If the shapes do not match, `t` is 0, or there are more than 65,535 images.
pub fn match_boxes(
    boxes: Tensor<3>,
    gt: Tensor<3>,
    counts: Tensor<1, Int>,
    thresholds: &MatchThresholds,
) -> Tensor<2, Int> {
    let [n, slots, corners] = gt.dims();
    assert!(
        n <= u16::MAX as usize && slots > 0,
        "match_boxes: {n} images with {slots} slots for ground truth; use at most 65535 images and at least 1 slot"
    );
    assert_eq!(
        (corners, counts.dims()),
        (4, [n]),
        "counts must have one entry per image"
    );
    assert!([1, n].contains(&boxes.dims()[0]) && boxes.dims()[2] == 4);
    Tensor::from_dispatch(<Dispatch as MatchOps>::match_boxes(
        to_f32(boxes).into_dispatch(),
        to_f32(gt).into_dispatch(),
        counts.cast(IntDType::I32).into_dispatch(),
        *thresholds,
    ))
}
