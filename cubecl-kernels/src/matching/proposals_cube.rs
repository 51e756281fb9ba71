//! Matching of proposals on GPUs: one launch, which reads proposals and ground truth where they are.

use super::MatchThresholds;
use crate::dtype::to_f32;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::{DType, Shape};
use burn::tensor::{Int, IntDType, Tensor};
use burn_cubecl::CubeBackend;

/// Matching of proposals as a backend operation; use [`fn@super::match_proposals`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait ProposalOps: Backend {
    /// `[n, b + t]`, i32.
    #[fusion(meta = |proposals, _scores, gt, _counts, _thresholds| spec(proposals, gt))]
    fn match_proposals(
        proposals: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self>;
}

#[cfg(feature = "fusion")]
fn spec(proposals: &TensorSpec, gt: &TensorSpec) -> TensorSpec {
    let total = proposals.shape[1] + gt.shape[1];
    TensorSpec::new(Shape::new([gt.shape[0], total]), DType::I32)
}

pub fn matches(
    proposals: Tensor<3>,
    scores: Tensor<2>,
    gt: Tensor<3>,
    counts: Tensor<1, Int>,
    thresholds: &MatchThresholds,
) -> Tensor<2, Int> {
    Tensor::from_dispatch(<Dispatch as ProposalOps>::match_proposals(
        proposals.into_dispatch(),
        scores.into_dispatch(),
        to_f32(gt).into_dispatch(),
        counts.cast(IntDType::I32).into_dispatch(),
        *thresholds,
    ))
}

impl ProposalOps for CubeBackend {
    fn match_proposals(
        proposals: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        counts: IntTensor<Self>,
        thresholds: MatchThresholds,
    ) -> IntTensor<Self> {
        super::cube::matches(proposals, Some(scores), gt, counts, thresholds)
    }
}
