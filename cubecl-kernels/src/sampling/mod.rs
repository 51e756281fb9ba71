//! Balanced sampling of objects and background, on the device: random scores, and the choice of the best.

mod choice;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod choice_cube;
mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;

pub use choice::{Choice, choose_samples};
pub use cpu::{mix, sampling_key};

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Int, IntDType, Tensor, TensorData};

/// The scores as a backend operation; use [`sampling_scores`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait SamplingOps: Backend {
    /// `matches [n, b]`, `seeds [n, 2]` -> `[n, 2b]`.
    #[fusion(meta = output_spec)]
    fn sampling_scores(matches: IntTensor<Self>, seeds: IntTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;

#[cfg(feature = "fusion")]
fn output_spec(matches: &TensorSpec, _seeds: &TensorSpec) -> TensorSpec {
    let shape = [matches.shape[0], 2 * matches.shape[1]];
    TensorSpec::new(shape.into(), burn::tensor::DType::F32)
}

impl<B: Backend + SamplingOps, C: CheckpointStrategy> SamplingOps for Autodiff<B, C> {
    fn sampling_scores(matches: IntTensor<Self>, seeds: IntTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::sampling_scores(matches, seeds))
    }
}

/// A random score in `(0, 1]` per candidate, so that taking the best candidates is random sampling.
///
/// * `matches` - `[n, b]`, from [`crate::match_boxes`].
/// * `seeds` - one per image.
///
/// Returns `[n, 2b]`: scores for sampling objects, then scores for sampling background; all other candidates have minus
/// infinity. A score is a function of seed and index alone (counter-based generator, [`mix`]), with the same bits on
/// every device and in any order of evaluation.
///
/// # Panics
///
/// If `seeds` does not have one entry per image.
pub fn sampling_scores(matches: Tensor<2, Int>, seeds: &[u64], device: &Device) -> Tensor<2> {
    let [n, _] = matches.dims();
    assert_eq!(seeds.len(), n, "seeds must have one entry per image");
    let words: Vec<i32> = seeds
        .iter()
        .flat_map(|seed| [(seed >> 32) as i32, *seed as i32])
        .collect();
    let seeds = Tensor::<2, Int>::from_data(TensorData::new(words, [n, 2]), device);
    Tensor::from_dispatch(<Dispatch as SamplingOps>::sampling_scores(
        matches.cast(IntDType::I32).into_dispatch(),
        seeds.cast(IntDType::I32).into_dispatch(),
    ))
}

#[cfg(all(test, feature = "flex"))]
mod tests;
