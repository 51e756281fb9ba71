//! Overwriting buffers that a recorded graph reads. A graph reads the same buffers in every replay, so new inputs are
//! copied into them, whatever else refers to them.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(all(test, feature = "flex", any(feature = "wgpu", feature = "cuda")))]
mod tests;

use burn::tensor::{Float, Int, Tensor};

/// Targets with their new values. Keep it until the next replay or sync, which enqueues the copies: Burn may leave out
/// an operation whose results are dropped before.
#[derive(Debug)]
pub struct Overwritten {
    _floats: Vec<Tensor<1>>,
    _integers: Vec<Tensor<1, Int>>,
}

/// A tensor that is overwritten, and its new values.
pub type Overwrite<K> = (Tensor<1, K>, Tensor<1, K>);

/// Enqueues copies of new values into the buffers of targets, which other tensors may share: one launch for many
/// tensors of f32, one for each of i32. Targets must not be views, and all tensors must be on one GPU.
///
/// # Panics
///
/// If lengths or dtypes differ, a target is not dense, or the device is not a GPU.
pub fn overwrite(floats: Vec<Overwrite<Float>>, integers: Vec<Overwrite<Int>>) -> Overwritten {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return Overwritten {
        _floats: cube::floats(floats),
        _integers: integers.into_iter().map(cube::integers).collect(),
    };
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    panic!(
        "overwrite: there are no kernels for {} tensors; enable the feature wgpu or cuda",
        floats.len() + integers.len()
    );
}
