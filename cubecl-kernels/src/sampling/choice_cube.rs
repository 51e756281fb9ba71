//! The choice of samples on GPUs, with one unit per slot.

use crate::launch::{buffer, dense, elementwise, empty};
use crate::matching::IGNORED;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, Int, IntDType, Tensor};
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

/// The choice as a backend operation; use [`fn@super::choose_samples`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait ChoiceOps: Backend {
    /// Candidates, matches, objects and valid slots; integers are i32.
    #[fusion(meta = |scores, _best, _matches, _quota| specs(scores))]
    fn choose_samples(
        scores: FloatTensor<Self>,
        best: IntTensor<Self>,
        matches: IntTensor<Self>,
        quota: usize,
    ) -> (
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

#[cfg(feature = "fusion")]
fn specs(scores: &TensorSpec) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    let spec = |dtype| TensorSpec::new(Shape::new([scores.shape[0], scores.shape[2]]), dtype);
    let (integers, floats) = (spec(DType::I32), spec(DType::F32));
    (integers.clone(), integers, floats.clone(), floats)
}

/// Candidates and matches, objects and valid slots.
pub fn choose(
    scores: Tensor<3>,
    best: Tensor<3, Int>,
    matches: Tensor<2, Int>,
    quota: usize,
) -> ([Tensor<2, Int>; 2], [Tensor<2>; 2]) {
    let (candidates, matched, is_object, valid) = <Dispatch as ChoiceOps>::choose_samples(
        scores.into_dispatch(),
        best.cast(IntDType::I32).into_dispatch(),
        matches.cast(IntDType::I32).into_dispatch(),
        quota,
    );
    (
        [candidates, matched].map(Tensor::from_dispatch),
        [is_object, valid].map(Tensor::from_dispatch),
    )
}

impl ChoiceOps for CubeBackend {
    fn choose_samples(
        scores: FloatTensor<Self>,
        best: IntTensor<Self>,
        matches: IntTensor<Self>,
        quota: usize,
    ) -> (
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let [scores, best, matches] = [scores, best, matches].map(dense);
        let [n, _, count] = scores.meta.shape().dims();
        let [_, total] = matches.meta.shape().dims();
        let slots = |dtype| empty(&scores, [n, count], dtype);
        let [candidates, matched] = [DType::I32; 2].map(slots);
        let [is_object, valid] = [DType::F32; 2].map(slots);
        let units = n * count;
        let (cubes, cube) = elementwise(&scores, units);
        // SAFETY: the buffers are dense and of these shapes, and units beyond the slots stop.
        unsafe {
            choose_slots::launch_unchecked(
                &scores.client,
                cubes,
                cube,
                buffer(&scores),
                buffer(&best),
                buffer(&matches),
                buffer(&candidates),
                buffer(&matched),
                buffer(&is_object),
                buffer(&valid),
                SizesLaunch {
                    count: count as u32,
                    total: total as u32,
                    quota: quota as u32,
                    units: units as u32,
                },
            );
        }
        (candidates, matched, is_object, valid)
    }
}

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    /// Slots per image.
    count: u32,
    /// Candidates per image.
    total: u32,
    quota: u32,
    units: u32,
}

/// Whether a score is that of a candidate: not minus infinity. Tested on the bits, because shader compilers may assume
/// that floats are finite.
#[cube]
fn is_candidate(score: f32) -> bool {
    score.to_bits() != 0xff80_0000u32
}

/// `scores`, `best [n, 2, count]`, `matches [n, total]` -> four outputs `[n, count]`. One unit per slot.
#[cube(launch_unchecked)]
fn choose_slots(
    scores: &[f32],
    best: &[i32],
    matches: &[i32],
    candidates: &mut [i32],
    matched: &mut [i32],
    is_object: &mut [f32],
    valid: &mut [f32],
    sizes: &Sizes,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= sizes.units {
        terminate!();
    }
    let image = unit / sizes.count;
    let slot = unit % sizes.count;
    let first = image * 2 * sizes.count;
    // The number of objects up to the quota: scores are sorted, those of no candidate last.
    let mut low = 0u32.runtime();
    let mut high = min(sizes.quota, sizes.count);
    while low < high {
        let middle = (low + high) / 2;
        if is_candidate(scores[(first + middle) as usize]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let objects = low;
    let mut place = first + slot;
    let mut shift = 0u32.runtime();
    if slot >= objects {
        place = first + sizes.count + slot - objects;
        shift = sizes.total;
    }
    let at = unit as usize;
    if is_candidate(scores[place as usize]) {
        let candidate = min(
            u32::cast_from(best[place as usize]) - shift,
            sizes.total - 1,
        );
        let found = matches[(image * sizes.total + candidate) as usize];
        candidates[at] = i32::cast_from(candidate);
        matched[at] = found;
        is_object[at] = select(found >= 0, 1.0f32, 0.0f32);
        valid[at] = 1.0f32;
    } else {
        candidates[at] = 0;
        matched[at] = IGNORED;
        is_object[at] = 0.0f32;
        valid[at] = 0.0f32;
    }
}
