//! Updates of a parameter by an optimizer. On the CPU each is one pass over the parameter; with Burn's operations it
//! would be one pass per term of the formula, each with a new block of memory for its result.

#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "flex")]
mod flex;
mod rates;

pub use rates::{AdamwUpdate, SgdUpdate, UpdateRates};

use burn::tensor::Tensor;

/// torch's SGD without dampening: `g = scale * g + decay * p; v = momentum * v + g; p -= rate * v`.
///
/// * `value`, `gradient`, `velocity` - `[n]`, f32; the velocity before the first update is 0.
///
/// Returns the value and the velocity. On the CPU both are overwritten if nothing else refers to them.
pub fn sgd(
    update: &SgdUpdate,
    value: Tensor<1>,
    gradient: Tensor<1>,
    velocity: Tensor<1>,
) -> (Tensor<1>, Tensor<1>) {
    #[cfg(feature = "flex")]
    if [&value, &gradient, &velocity].map(is_cpu_f32) == [true; 3] {
        return flex::sgd(*update, value, gradient, velocity);
    }
    sgd_by_operations(update, value, gradient, velocity)
}

fn sgd_by_operations(
    update: &SgdUpdate,
    value: Tensor<1>,
    gradient: Tensor<1>,
    velocity: Tensor<1>,
) -> (Tensor<1>, Tensor<1>) {
    let gradient = scaled(gradient, update.rates.scale) + value.clone() * update.rates.decay;
    let velocity = velocity * update.momentum + gradient;
    (value - velocity.clone() * update.rates.rate, velocity)
}

/// `p -= rate * (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + decay * p)`, where `m` and `v` are the means of
/// the gradient, multiplied by `scale`, and of its square.
///
/// * `value`, `gradient`, `means` - `[n]`, f32; the means before the first update are 0.
///
/// Returns the value and the means. On the CPU they are overwritten if nothing else refers to them.
pub fn adamw(
    update: &AdamwUpdate,
    value: Tensor<1>,
    gradient: Tensor<1>,
    means: [Tensor<1>; 2],
) -> (Tensor<1>, [Tensor<1>; 2]) {
    #[cfg(feature = "flex")]
    if [&value, &gradient, &means[0], &means[1]].map(is_cpu_f32) == [true; 4] {
        return flex::adamw(*update, value, gradient, means);
    }
    adamw_by_operations(update, value, gradient, means)
}

fn adamw_by_operations(
    update: &AdamwUpdate,
    value: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let gradient = scaled(gradient, update.rates.scale);
    let ([beta1, beta2], [correction1, correction2]) = (update.betas, update.corrections());
    let second = second * beta2 + gradient.clone().square() * (1.0 - beta2);
    let first = first * beta1 + gradient * (1.0 - beta1);
    let root = (second.clone() / correction2).sqrt() + update.epsilon;
    let delta = first.clone() / correction1 / root + value.clone() * update.rates.decay;
    (value - delta * update.rates.rate, [first, second])
}

fn scaled(gradient: Tensor<1>, scale: f64) -> Tensor<1> {
    match scale == 1.0 {
        true => gradient,
        false => gradient * scale,
    }
}

#[cfg(feature = "flex")]
fn is_cpu_f32(x: &Tensor<1>) -> bool {
    crate::flex::is_cpu_f32(x) && !x.device().is_autodiff()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    /// Lengths of no task, of less than one, of one, and of several with a remainder.
    const LENGTHS: [usize; 4] = [0, 7, 16 << 10, 200_003];

    fn random<const N: usize>(len: usize) -> [Tensor<1>; N] {
        let device = Device::flex();
        [(); N].map(|()| Tensor::random([len], Distribution::Uniform(-1.0, 1.0), &device))
    }

    fn bits(tensor: Tensor<1>) -> Vec<u32> {
        let values = tensor.into_data().try_into_vec::<f32>().expect("f32");
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn sgd_in_one_pass_gives_the_bits_of_the_operations() {
        for (len, scale) in LENGTHS
            .into_iter()
            .flat_map(|len| [(len, 1.0), (len, 0.37)])
        {
            let update = SgdUpdate {
                rates: UpdateRates {
                    rate: 0.02,
                    decay: 1e-4,
                    scale,
                },
                momentum: 0.9,
            };
            let [value, gradient, velocity] = random(len);
            let before = bits(value.clone());
            let tensors = || (value.clone(), gradient.clone(), velocity.clone());
            let (a, b, c) = tensors();
            let fused = sgd(&update, a, b, c);
            let (a, b, c) = tensors();
            let expected = sgd_by_operations(&update, a, b, c);
            assert_eq!(bits(fused.0), bits(expected.0), "{len} values");
            assert_eq!(bits(fused.1), bits(expected.1), "{len} velocities");
            // Another owner of the value keeps its own.
            assert_eq!(bits(value), before);
        }
    }

    #[test]
    fn adamw_in_one_pass_gives_the_bits_of_the_operations() {
        for (len, step) in LENGTHS.into_iter().flat_map(|len| [(len, 1), (len, 900)]) {
            let update = AdamwUpdate {
                rates: UpdateRates {
                    rate: 0.002,
                    decay: 0.01,
                    scale: 0.37,
                },
                betas: [0.9, 0.999],
                epsilon: 1e-8,
                step,
            };
            let [value, gradient, first, second] = random(len);
            let tensors = || {
                let means = [first.clone(), second.clone().square()];
                (value.clone(), gradient.clone(), means)
            };
            let (a, b, means) = tensors();
            let (fused, fused_means) = adamw(&update, a, b, means);
            let (a, b, means) = tensors();
            let (expected, expected_means) = adamw_by_operations(&update, a, b, means);
            assert_eq!(bits(fused), bits(expected), "{len} values");
            for (fused, expected) in fused_means.into_iter().zip(expected_means) {
                assert_eq!(bits(fused), bits(expected), "{len} means");
            }
        }
    }
}
