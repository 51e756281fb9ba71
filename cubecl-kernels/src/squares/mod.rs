//! The sum of the squares of many tensors, for the gradient norm, and the sums of small ones.
//!
//! With Burn's operations it takes two launches per parameter, the second of which may read a parameter with a single
//! cube.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;

use burn::tensor::Tensor;

/// The sum of `(factor * x)^2` over all elements of `tensors`, `[1]`; f32, and `None` without tensors.
///
/// On GPUs sums are added in a fixed order, so two calls are bit-equal.
pub fn sum_of_squares(tensors: &[Tensor<1>], factor: f64) -> Option<Tensor<1>> {
    if tensors.is_empty() {
        return None;
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if tensors.iter().all(crate::capability::is_plain_gpu_f32) {
        // Not `sum`, among whose kernels Burn tunes some that add in any order.
        return Some(cube::partials(tensors, factor).sum_dim(0));
    }
    let squares = tensors.iter().map(|tensor| tensor.clone().square().sum());
    Some(Tensor::cat(squares.collect(), 0).sum() * (factor * factor))
}

/// The sum of each of `tensors`, `[tensors]`; f32. They are small: on GPUs a group of units adds each, in a fixed order
/// and all in one launch.
pub fn sums(tensors: &[Tensor<1>]) -> Tensor<1> {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if !tensors.is_empty() && tensors.iter().all(crate::capability::is_plain_gpu_f32) {
        return cube::sums(tensors);
    }
    let sums = tensors.iter().map(|tensor| tensor.clone().sum());
    Tensor::cat(sums.collect(), 0)
}
