//! The sum of the squares of many tensors, for the gradient norm, and the sums of small ones.
//!
//! With Burn's operations it takes two launches per parameter, the second of which may read a parameter with a single
//! cube.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;

use burn::tensor::Tensor;

/// Partial sums of `(factor * x)^2` over the elements of `tensors`, f32: `[k]`, where `k` depends on the device and the
/// lengths. `None` without tensors. [`sum_each`] adds them up, and other small tensors in the same launch.
///
/// On GPUs the order of additions is fixed, so two calls are bit-equal.
pub fn partial_sums_of_squares(tensors: &[Tensor<1>], factor: f64) -> Option<Tensor<1>> {
    if tensors.is_empty() {
        return None;
    }
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if tensors.iter().all(crate::capability::is_plain_gpu_f32) {
        return Some(cube::partial_sums_of_squares(tensors, factor));
    }
    let squares = tensors.iter().map(|tensor| tensor.clone().square().sum());
    Some(Tensor::cat(squares.collect(), 0) * (factor * factor))
}

/// The sums of `tensors`, `[tensors]`, in f32 for tensors in f32. For small tensors: on GPUs one cube adds each, in a
/// fixed order and up to six in one launch.
///
/// # Panics
///
/// If there are no tensors.
pub fn sum_each(tensors: &[Tensor<1>]) -> Tensor<1> {
    assert!(!tensors.is_empty(), "sum_each: there must be a tensor");
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if tensors.iter().all(crate::capability::is_plain_gpu_f32) {
        return cube::sum_each(tensors);
    }
    let sums = tensors.iter().map(|tensor| tensor.clone().sum());
    Tensor::cat(sums.collect(), 0)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Lengths of one launch and of two, of no and one element, and of more elements than a cube has units.
    fn check(device: &Device) {
        let lengths = [3, 1, 300, 0, 256, 7, 2000];
        for count in 1..=lengths.len() {
            let tensors = lengths[..count].iter().map(|&length| {
                let values: Vec<f32> = (0..length).map(|i| (i % 5) as f32 - 1.0).collect();
                Tensor::<1>::from_floats(values.as_slice(), device)
            });
            let found: Vec<f32> = sum_each(&tensors.collect::<Vec<_>>())
                .into_data()
                .try_into_vec()
                .expect("f32");
            let wanted = lengths[..count].iter().map(|&length| {
                let terms = (0..length).map(|i| (i % 5) as f32 - 1.0);
                terms.sum::<f32>()
            });
            assert_eq!(found, wanted.collect::<Vec<_>>());
        }
    }

    #[test]
    fn sums_are_those_of_each_tensor() {
        check(&Device::flex());
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if let Some((selected, _)) = crate::test_gpu::open() {
            check(&selected.device);
        }
    }
}
