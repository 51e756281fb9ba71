use super::*;
use burn::tensor::{Device, Distribution};

/// Lengths of no task, of less than one, of one, and of several with a remainder.
const LENGTHS: [usize; 4] = [0, 7, 16 << 10, 200_003];

const SGD: SgdUpdate = SgdUpdate {
    rate: 0.02,
    momentum: 0.9,
};

fn adamw_update(step: i32) -> AdamwUpdate {
    AdamwUpdate {
        rate: 0.002,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        step,
    }
}

fn factors(scale: f64) -> ParamFactors {
    ParamFactors { decay: 1e-4, scale }
}

/// One parameter per length; the last tensor of each is not negative, because it may be a mean of squares.
fn random<const N: usize>(device: &Device) -> Vec<[Tensor<1>; N]> {
    let tensor = |len| Tensor::<1>::random([len], Distribution::Uniform(-1.0, 1.0), device);
    let params = LENGTHS.map(|len| {
        let mut tensors = [(); N].map(|()| tensor(len));
        tensors[N - 1] = tensors[N - 1].clone().square();
        tensors
    });
    params.into_iter().collect()
}

fn values(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

fn bits(tensor: Tensor<1>) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

#[test]
fn sgd_in_one_pass_gives_the_bits_of_the_operations() {
    for scale in [1.0, 0.37] {
        let params = random::<3>(&Device::flex());
        let before: Vec<_> = params
            .iter()
            .map(|[value, ..]| bits(value.clone()))
            .collect();
        let all = vec![factors(scale); params.len()];
        let found = sgd(&SGD, &all, params.clone());
        for ((found, tensors), before) in found.into_iter().zip(params).zip(before) {
            let value = tensors[0].clone();
            let wanted = sgd_by_operations(&SGD, factors(scale), tensors);
            assert_eq!(found.map(bits), wanted.map(bits));
            // Another owner of the value keeps its own.
            assert_eq!(bits(value), before);
        }
    }
}

#[test]
fn adamw_in_one_pass_gives_the_bits_of_the_operations() {
    for step in [1, 900] {
        let update = adamw_update(step);
        let params = random::<4>(&Device::flex());
        let all = vec![factors(0.37); params.len()];
        let found = adamw(&update, &all, params.clone());
        for (found, tensors) in found.into_iter().zip(params) {
            let wanted = adamw_by_operations(&update, factors(0.37), tensors);
            assert_eq!(found.map(bits), wanted.map(bits));
        }
    }
}

#[test]
#[should_panic(expected = "must have one length")]
fn lengths_that_differ_are_refused() {
    let tensor = |len: usize| Tensor::zeros([len], &Device::flex());
    sgd(
        &SGD,
        &[factors(1.0)],
        vec![[tensor(3), tensor(2), tensor(3)]],
    );
}

/// The kernels of GPUs beside the CPU, each parameter with factors of its own.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu {
    use super::*;
    use burn::tensor::TensorData;

    /// The update on the GPU, twice with the same bits, and on the CPU: no value differs by more than rounding.
    fn check<const N: usize, const R: usize>(
        update: impl Fn(&[ParamFactors], Vec<[Tensor<1>; N]>) -> Vec<[Tensor<1>; R]>,
    ) {
        let Some((selected, _)) = crate::test_gpu::open() else {
            return;
        };
        // More than one launch has. Without empty ones, for whose upload Burn asks CUDA for 0 bytes.
        let params = (0..24).flat_map(|_| random::<N>(&Device::flex()));
        let params: Vec<_> = params.filter(|param| param[0].dims()[0] > 0).collect();
        let all: Vec<_> = (0..params.len())
            .map(|i| ParamFactors {
                decay: [0.0, 1e-4, 0.3][i % 3],
                scale: [1.0, 0.37][i % 2],
            })
            .collect();
        let on_gpu = || {
            let upload = |tensor: Tensor<1>| {
                let data = TensorData::new(values(tensor.clone()), tensor.shape());
                Tensor::from_data(data, &selected.device)
            };
            let tensors = params.iter().map(|param| param.clone().map(upload));
            update(&all, tensors.collect())
        };
        let wanted = update(&all, params.clone());
        for ((found, again), wanted) in on_gpu().into_iter().zip(on_gpu()).zip(wanted) {
            for ((found, again), wanted) in found.into_iter().zip(again).zip(wanted) {
                let found = values(found);
                assert_eq!(found, values(again));
                for (found, wanted) in found.iter().zip(values(wanted)) {
                    // Products that are added without rounding in between.
                    let allowed = 4.0 * f32::EPSILON * (1.0 + wanted.abs());
                    assert!((found - wanted).abs() <= allowed, "{found}, not {wanted}");
                }
            }
        }
    }

    #[test]
    fn sgd_of_many_parameters_is_that_of_each() {
        check(|factors, tensors| sgd(&SGD, factors, tensors));
    }

    #[test]
    fn adamw_of_many_parameters_is_that_of_each() {
        check(|factors, tensors| adamw(&adamw_update(5), factors, tensors));
    }

    /// An update does not change the values of another owner.
    #[test]
    fn another_owner_of_a_value_keeps_it() {
        let Some((selected, _)) = crate::test_gpu::open() else {
            return;
        };
        let tensor = |x: f32| Tensor::<1>::full([300], x, &selected.device);
        let [value, gradient, velocity] = [1.0, 0.5, 0.25].map(tensor);
        let tensors = vec![[value.clone(), gradient, velocity.clone()]];
        let [[new, _]]: [_; 1] = sgd(&SGD, &[factors(1.0)], tensors).try_into().expect("one");
        assert_eq!(values(value), [1.0; 300]);
        assert_eq!(values(velocity), [0.25; 300]);
        let expected = 1.0 - 0.02 * (0.9 * 0.25 + 0.5 + 1e-4);
        assert!((values(new)[299] - expected).abs() < 1e-6);
    }
}
