//! Updates of parameters by an optimizer. On the CPU each is one pass over a parameter; with Burn's operations it
//! would be one pass per term of the formula, each with a new block of memory for its result. On GPUs one launch
//! updates many parameters.

#[cfg(feature = "flex")]
mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
mod rates;

pub use rates::{AdamwUpdate, ParamFactors, SgdUpdate};

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::capability::is_plain_gpu_f32;
use burn::tensor::Tensor;

/// torch's SGD without dampening: `g = scale * g + decay * p; v = momentum * v + g; p -= rate * v`.
///
/// * `factors` - weight decay and gradient scale of each parameter.
/// * `tensors` - value, gradient and velocity of each parameter, `[n]`, f32; the velocity before the first update is
///   0.
///
/// Returns the value and the velocity of each. Both are overwritten if nothing else refers to them.
///
/// # Panics
///
/// If the numbers of `factors` and `tensors` differ, or the lengths of the tensors of a parameter.
pub fn sgd(
    update: &SgdUpdate,
    factors: &[ParamFactors],
    tensors: Vec<[Tensor<1>; 3]>,
) -> Vec<[Tensor<1>; 2]> {
    check(factors, &tensors);
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if tensors.iter().flatten().all(is_plain_gpu_f32) {
        return cube::sgd(*update, factors, tensors);
    }
    let one = |(factors, tensors): (&ParamFactors, [Tensor<1>; 3])| {
        #[cfg(feature = "flex")]
        if tensors.iter().all(is_cpu_f32) {
            return flex::sgd(*update, *factors, tensors);
        }
        sgd_by_operations(update, *factors, tensors)
    };
    factors.iter().zip(tensors).map(one).collect()
}

fn sgd_by_operations(
    update: &SgdUpdate,
    factors: ParamFactors,
    [value, gradient, velocity]: [Tensor<1>; 3],
) -> [Tensor<1>; 2] {
    let gradient = scaled(gradient, factors.scale) + value.clone() * factors.decay;
    let velocity = velocity * update.momentum + gradient;
    [value - velocity.clone() * update.rate, velocity]
}

/// `p -= rate * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + decay * p)`, where `m` and `v` are the means of
/// the gradient, multiplied by `scale`, and of its square.
///
/// * `factors` - weight decay and gradient scale of each parameter.
/// * `tensors` - value, gradient and both means of each parameter, `[n]`, f32; the means before the first update are 0.
///
/// Returns the value and the means of each. They are overwritten if nothing else refers to them.
///
/// # Panics
///
/// If the numbers of `factors` and `tensors` differ, or the lengths of the tensors of a parameter.
pub fn adamw(
    update: &AdamwUpdate,
    factors: &[ParamFactors],
    tensors: Vec<[Tensor<1>; 4]>,
) -> Vec<[Tensor<1>; 3]> {
    check(factors, &tensors);
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if tensors.iter().flatten().all(is_plain_gpu_f32) {
        return cube::adamw(*update, factors, tensors);
    }
    let one = |(factors, tensors): (&ParamFactors, [Tensor<1>; 4])| {
        #[cfg(feature = "flex")]
        if tensors.iter().all(is_cpu_f32) {
            return flex::adamw(*update, *factors, tensors);
        }
        adamw_by_operations(update, *factors, tensors)
    };
    factors.iter().zip(tensors).map(one).collect()
}

fn adamw_by_operations(
    update: &AdamwUpdate,
    factors: ParamFactors,
    [value, gradient, first, second]: [Tensor<1>; 4],
) -> [Tensor<1>; 3] {
    let gradient = scaled(gradient, factors.scale);
    let ([beta1, beta2], [correction1, correction2]) = (update.betas, update.corrections());
    let second = second * beta2 + gradient.clone().square() * (1.0 - beta2);
    let first = first * beta1 + gradient * (1.0 - beta1);
    let root = (second.clone() / correction2).sqrt() + update.epsilon;
    let delta = first.clone() / correction1 / root + value.clone() * factors.decay;
    [value - delta * update.rate, first, second]
}

fn scaled(gradient: Tensor<1>, scale: f64) -> Tensor<1> {
    match scale == 1.0 {
        true => gradient,
        false => gradient * scale,
    }
}

fn check<const N: usize>(factors: &[ParamFactors], tensors: &[[Tensor<1>; N]]) {
    assert_eq!(
        factors.len(),
        tensors.len(),
        "an update needs one ParamFactors per parameter"
    );
    for tensors in tensors {
        let lengths = tensors.each_ref().map(|tensor| tensor.dims()[0]);
        assert_eq!(
            lengths, [lengths[0]; N],
            "the value, gradient and moments of a parameter must have one length"
        );
    }
}

#[cfg(feature = "flex")]
fn is_cpu_f32(x: &Tensor<1>) -> bool {
    crate::flex::is_cpu_f32(x) && !x.device().is_autodiff()
}

#[cfg(all(test, feature = "flex"))]
mod tests;
