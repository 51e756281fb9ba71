//! Operations on feature maps, each a single parallel pass on the CPU: the stem's max pool, the top-down sum of a
//! feature pyramid (on GPUs too), and packing a pyramid for RoIAlign.

#[cfg(feature = "flex")]
mod autodiff;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod ops;
mod upsample;

use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, module};

/// Max pool of 3x3 cells with stride 2 and padding 1: `[n, c, h, w]` -> `[n, c, ceil(h / 2), ceil(w / 2)]`.
///
/// Equals torch's `max_pool2d(x, 3, 2, 1)`: NaN is the maximum, and the gradient goes to the first
/// maximum of a window.
pub fn max_pool3x3(x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if is_cpu_f32(&x) {
        return ops::max_pool3x3(x);
    }
    let pool = MaxPoolOptions::new([3, 3]);
    module::max_pool2d(x, pool.with_stride([2, 2]).with_padding([1, 1]))
}

/// `lateral [n, c, h, w]` plus `top [n, c, ceil(h / 2), ceil(w / 2)]` with rows and columns doubled: the
/// top-down path of a feature pyramid (Lin et al., 2016).
///
/// # Panics
///
/// If the shapes do not match.
pub fn upsample_add(lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = lateral.dims();
    let half = [n, c, h.div_ceil(2), w.div_ceil(2)];
    assert_eq!(
        top.dims(),
        half,
        "upsample_add: the top must have half of the rows and columns"
    );
    let has_kernel = lateral.dtype() == top.dtype()
        && (crate::has_selection_kernels(&lateral.device()) || is_cpu_f32(&lateral));
    if has_kernel {
        return upsample::add_upsampled(lateral, top);
    }
    lateral + upsample_nearest(top, h, w)
}

#[cfg(feature = "flex")]
use crate::flex::is_cpu_f32;

/// A build without the CPU backend has no tensors of the CPU.
#[cfg(not(feature = "flex"))]
fn is_cpu_f32(_: &Tensor<4>) -> bool {
    false
}

/// Doubles rows and columns, then crops to `h x w`: odd sizes lose the last row or column.
fn upsample_nearest(x: Tensor<4>, h: usize, w: usize) -> Tensor<4> {
    let [n, c, rows, columns] = x.dims();
    let doubled = x
        .reshape([n, c, rows, 1, columns, 1])
        .expand([n, c, rows, 2, columns, 2])
        .reshape([n, c, rows * 2, columns * 2]);
    if (h, w) == (rows * 2, columns * 2) {
        doubled
    } else {
        doubled.slice([0..n, 0..c, 0..h, 0..w])
    }
}

/// Concatenates the cells of feature maps `[n, c, h, w]`, map by map: `[n * cells, c]`.
///
/// # Panics
///
/// If there are no maps, or they differ in `n` or `c`.
pub(crate) fn pack(features: &[Tensor<4>]) -> Tensor<2> {
    let shapes: Vec<_> = features.iter().map(|feature| feature.dims()).collect();
    assert!(
        !shapes.is_empty() && shapes.iter().all(|shape| shape[..2] == shapes[0][..2]),
        "pack_pyramid: one or more feature maps [n, c, h, w] with the same n and c, not {shapes:?}"
    );
    #[cfg(feature = "flex")]
    if features.iter().all(is_cpu_f32) {
        return ops::pack(features);
    }
    let packed = features.iter().map(|feature| {
        let [n, c, h, w] = feature.dims();
        feature
            .clone()
            .permute([0, 2, 3, 1])
            .reshape([n * h * w, c])
    });
    Tensor::cat(packed.collect(), 0)
}
