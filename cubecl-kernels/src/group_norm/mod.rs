//! Group normalization (Wu and He, 2018) with residual and ReLU.

mod affine;
#[cfg(feature = "flex")]
mod autodiff;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod ops;

use burn::tensor::{Tensor, activation};

/// Group norm of `x [n, c, h, w]` with biased variances, then `residual` added and `max(., 0)` if `relu`.
///
/// * `weight`, `bias` - `[c]`.
/// * `groups` - must divide `c`.
/// * `epsilon` - added to the variance.
///
/// Equals torch's `group_norm` and is differentiable in all tensors. On the CPU in f32 it takes two
/// passes over `x`, with sums in a fixed order.
///
/// # Panics
///
/// If `groups` does not divide the channels, or the shapes do not match.
pub fn group_norm(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    epsilon: f64,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    assert!(
        groups > 0 && c.is_multiple_of(groups),
        "group_norm: {groups} groups do not divide {c} channels"
    );
    #[cfg(feature = "flex")]
    if crate::flex::is_cpu_f32(&x) {
        let setting = (groups, epsilon);
        return ops::group_norm(x, [weight, bias], setting, residual, relu);
    }
    let grouped = x.reshape([n, groups, c / groups * h * w]);
    let mean = grouped.clone().mean_dim(2);
    let centered = grouped - mean;
    let variance = centered.clone().square().mean_dim(2);
    let normed = (centered / (variance + epsilon).sqrt()).reshape([n, c, h, w]);
    let output = affine::affine(normed, weight, bias);
    let output = match residual {
        Some(residual) => output + residual,
        None => output,
    };
    if relu {
        activation::relu(output)
    } else {
        output
    }
}
