//! Prepared parameters on a GPU beside Burn's operations.

use super::*;
use burn::tensor::{DType, Distribution, Tensor};

/// More convolutions than one launch folds: 1x1, 3x3 and 7x7, also with odd numbers of channels.
fn weights() -> Vec<Tensor<4>> {
    let random = |shape| Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::flex());
    let shapes = [[5, 3, 1, 1], [7, 6, 3, 3], [64, 33, 3, 3], [2, 1, 7, 7]];
    shapes.into_iter().cycle().take(70).map(random).collect()
}

fn on<const D: usize>(tensor: &Tensor<D>, device: &Device) -> Tensor<D> {
    Tensor::from_data(tensor.to_data(), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let tensor = tensor.cast(FloatDType::F32);
    tensor.into_data().try_into_vec().expect("f32")
}

fn close(found: Vec<f32>, wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        // A root, a division and a product, each rounded, perhaps with fewer roundings.
        let allowed = 8.0 * f32::EPSILON * (1.0 + wanted.abs());
        assert!(
            (found - wanted).abs() <= allowed,
            "{what}: {found}, not {wanted}"
        );
    }
}

#[test]
fn folded_norms_are_those_of_the_operations() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    let device = &selected.device;
    if !can_prepare_weights(device) {
        eprintln!("SKIPPED: the device binds too few buffers");
        return;
    }
    let weights = weights();
    let per_output = |low: f64, high: f64| -> Vec<Tensor<1>> {
        let range = Distribution::Uniform(low, high);
        let outputs = weights.iter().map(|weight| weight.dims()[0]);
        outputs
            .map(|outputs| Tensor::random([outputs], range, &Device::flex()))
            .collect()
    };
    let [norm_weights, biases, means] = [(-1.0, 1.0); 3].map(|(low, high)| per_output(low, high));
    let vars = per_output(0.1, 2.0);
    let epsilons: Vec<f64> = (0..weights.len()).map(|i| [1e-5, 0.1][i % 2]).collect();
    let list = |tensors: &[Tensor<1>]| TensorList::of(tensors.iter().map(|it| on(it, device)));
    let norms = FrozenNorms {
        weights: list(&norm_weights),
        biases: list(&biases),
        means: list(&means),
        vars: list(&vars),
        epsilons: epsilons.clone(),
    };
    let uploaded = TensorList::of(weights.iter().map(|weight| on(weight, device)));
    let folded = fold_norms(uploaded, norms, FloatDType::F32);
    let mut shifts = folded.shifts.into_tensors::<1>();
    let mut scales = folded.scales.into_tensors::<1>();
    for (i, found) in folded.weights.into_tensors::<4>().enumerate() {
        let scale = norm_weights[i].clone() / (vars[i].clone() + epsilons[i]).sqrt();
        let shift = biases[i].clone() - means[i].clone() * scale.clone();
        let weight = weights[i].clone() * scale.clone().reshape([-1, 1, 1, 1]);
        assert_eq!(found.dims(), weight.dims());
        close(values(found), &values(weight), "weight");
        close(
            values(shifts.next().expect("one each")),
            &values(shift),
            "shift",
        );
        close(
            values(scales.next().expect("one each")),
            &values(scale),
            "scale",
        );
    }
    let none = FrozenNorms {
        weights: list(&[]),
        biases: list(&[]),
        means: list(&[]),
        vars: list(&[]),
        epsilons: Vec::new(),
    };
    let nothing = fold_norms(TensorList(Vec::new()), none, FloatDType::F32);
    assert!(nothing.weights.0.is_empty());
}

#[test]
fn cast_weights_keep_their_values_and_shapes() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    let device = &selected.device;
    let [weights, vectors] = [weights(), weights()];
    let mut list = TensorList::of(weights.iter().map(|weight| on(weight, device)));
    let flat = |tensor: &Tensor<4>| tensor.clone().flatten::<2>(1, 3);
    let matrices = vectors.iter().map(|tensor| on(&flat(tensor), device));
    list.0.extend(TensorList::of(matrices).0);
    // f16 only where it is certainly supported; elsewhere the kernel copies f32 to f32.
    let dtype = match crate::capability::multiplies_on_matrix_units(device, DType::F16) {
        true => FloatDType::F16,
        false => FloatDType::F32,
    };
    let mut cast = cast_weights(list, dtype).0.into_iter();
    let allowed = if dtype == FloatDType::F16 { 5e-4 } else { 0.0 };
    let check = |found: Vec<f32>, wanted: Vec<f32>| {
        let pairs = found.iter().zip(&wanted);
        assert_eq!(found.len(), wanted.len());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= allowed));
    };
    for wanted in &weights {
        let found = Tensor::<4>::from_dispatch(cast.next().expect("one each"));
        assert_eq!(found.dims(), wanted.dims());
        check(values(found), values(wanted.clone()));
    }
    for wanted in &vectors {
        let found = Tensor::<2>::from_dispatch(cast.next().expect("one each"));
        check(values(found), values(flat(wanted)));
    }
}

/// Gradients in order and channels-last, with and without the scale of a norm.
#[test]
fn restored_gradients_are_scaled_and_in_order() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    let device = &selected.device;
    let weights = weights();
    let (mut gradients, mut scales, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (i, weight) in weights.iter().enumerate() {
        let gradient = on(weight, device);
        let outputs = weight.dims()[0];
        // Dense in another order of dimensions, as kernels write it.
        let last = on(&weight.clone().permute([0, 2, 3, 1]), device).permute([0, 3, 1, 2]);
        gradients.push(if i % 2 == 0 { gradient } else { last });
        let values: Vec<f32> = (0..outputs).map(|output| output as f32 - 1.5).collect();
        let scale = Tensor::<1>::from_floats(values.as_slice(), &Device::flex());
        let is_scaled = i % 3 == 0;
        scales.push(is_scaled.then(|| on(&scale, device)));
        wanted.push(match is_scaled {
            true => weight.clone() * scale.reshape([-1, 1, 1, 1]),
            false => weight.clone(),
        });
    }
    let found = restore_gradients(TensorList::of(gradients), scales);
    for (found, wanted) in found.into_tensors::<1>().zip(wanted) {
        assert_eq!(values(found), values(wanted));
    }
    assert!(
        restore_gradients(TensorList(Vec::new()), Vec::new())
            .0
            .is_empty()
    );
}
