//! The k best scores of every segment, on the device, with static shapes and without reads by the host.

mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) mod kernel;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod sort;

pub(crate) use cpu::descending;
pub use cpu::top_k;

use crate::capability::{MAX_TOP_K, can_select};
use crate::dtype::to_f32;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};
use std::ops::Range;

/// Top-k as a backend operation; use [`top_k_segments`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait TopKOps: Backend {
    /// `scores [n, total]` -> scores and i32 indices `[n, segments, k]`.
    #[fusion(meta = output_spec)]
    fn top_k_segments(
        scores: FloatTensor<Self>,
        segments: Vec<Range<usize>>,
        k: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>);
}

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;

#[cfg(feature = "fusion")]
fn output_spec(
    scores: &TensorSpec,
    segments: &[Range<usize>],
    k: &usize,
) -> (TensorSpec, TensorSpec) {
    use burn::tensor::{DType, Shape};
    let shape = Shape::new([scores.shape[0], segments.len(), *k]);
    (
        TensorSpec::new(shape.clone(), scores.dtype),
        TensorSpec::new(shape, DType::I32),
    )
}

impl<B: Backend + TopKOps, C: CheckpointStrategy> TopKOps for Autodiff<B, C> {
    fn top_k_segments(
        scores: FloatTensor<Self>,
        segments: Vec<Range<usize>>,
        k: usize,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let (best, indices) = B::top_k_segments(scores.into_primitive(), segments, k);
        (Self::from_inner(best), indices)
    }
}

/// The `k` best scores of each segment of each row, best first, and their indices in the row.
///
/// * `scores` - `[n, total]`; `total` at most 4,194,303.
/// * `segments` - ranges of `0..total`, of any length, which may overlap. At most 65,535 segments and 65,535 rows.
/// * `k` - `1..=MAX_TOP_K` on a GPU, any positive number on the CPU.
///
/// Returns scores and i32 indices, both `[n, segments, k]`. Equal scores keep their order; NaN ranks lowest, after
/// minus infinity, as in [`top_k`]. Slots beyond the length of a segment have minus infinity and index -1. Not
/// differentiable. Every backend returns the same bits.
///
/// # Panics
///
/// If `k`, a segment, or the number of rows, segments or scores is out of range.
pub fn top_k_segments(
    scores: Tensor<2>,
    segments: &[Range<usize>],
    k: usize,
) -> (Tensor<3>, Tensor<3, Int>) {
    let [rows, total] = scores.dims();
    assert!(
        k > 0 && can_select(&scores.device(), &[k]),
        "top-k with k = {k}; use 1 to {MAX_TOP_K} on a GPU"
    );
    assert!(
        rows.max(segments.len()) <= u16::MAX as usize,
        "{rows} rows of {} segments; at most 65535 of each",
        segments.len()
    );
    for segment in segments {
        assert!(
            segment.start <= segment.end && segment.end <= total,
            "segment {segment:?} is outside the {total} scores of a row"
        );
    }
    let (best, indices) =
        <Dispatch as TopKOps>::top_k_segments(to_f32(scores).into_dispatch(), segments.to_vec(), k);
    (Tensor::from_dispatch(best), Tensor::from_dispatch(indices))
}
