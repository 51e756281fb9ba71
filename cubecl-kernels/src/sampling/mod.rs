//! Balanced sampling of objects and background, on the device: random scores, the choice of the best, and the slots of
//! the objects.

mod choice;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod choice_cube;
mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
mod objects;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod objects_cube;

pub use choice::{Choice, choose_samples};
pub use cpu::{mix, sampling_key};
pub use objects::{ObjectSlots, object_slots};

use crate::upload::upload_dense;
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
/// * `seeds` - `[n, 2]`, from [`sampling_seeds`].
///
/// Returns `[n, 2b]`: scores for sampling objects, then scores for sampling background; all other candidates have minus
/// infinity. A score is a function of seed and index alone (counter-based generator, [`mix`]), with the same bits on
/// every device and in any order of evaluation.
///
/// # Panics
///
/// If `seeds` does not have one entry per image.
pub fn sampling_scores(matches: Tensor<2, Int>, seeds: Tensor<2, Int>) -> Tensor<2> {
    let [n, _] = matches.dims();
    assert_eq!(seeds.dims(), [n, 2], "seeds must have one entry per image");
    Tensor::from_dispatch(<Dispatch as SamplingOps>::sampling_scores(
        matches.cast(IntDType::I32).into_dispatch(),
        seeds.cast(IntDType::I32).into_dispatch(),
    ))
}

/// Seeds, one per image, for [`sampling_scores`] on `device`: `[n, 2]`, the upper and the lower 32 bits of each.
pub fn sampling_seeds(seeds: &[u64], device: &Device) -> Tensor<2, Int> {
    let words = seeds
        .iter()
        .flat_map(|seed| [(seed >> 32) as i32, *seed as i32]);
    let words = TensorData::new(words.collect::<Vec<i32>>(), [seeds.len(), 2]);
    upload_dense(words, device)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
