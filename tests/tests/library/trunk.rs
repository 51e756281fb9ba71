//! The backbone and FPN of ResNeXt-50 32x4d with recipe weights compared with torchvision: features and gradients.

use super::train_step::summaries;
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_backends::BackendKind;
use mrcnn_core::config::ModelConfig;
use mrcnn_core::random::Stream;
use mrcnn_tests::close::{magnitude, max_abs_error};
use mrcnn_tests::golden::Golden;
use mrcnn_tests::recipe;

fn resnext50_32x4d() -> ModelConfig {
    let mut config = ModelConfig {
        groups: 32,
        width_per_group: 4,
        freeze_at: 0,
        num_classes: 2,
        ..ModelConfig::default()
    };
    // Only the trunk is compared.
    (config.box_head.hidden, config.box_head.pool) = (8, 1);
    (config.mask_head.convs, config.mask_head.hidden) = (vec![8], 8);
    config
}

#[test]
fn resnext_equals_torchvision() {
    let Some(golden) = Golden::open("resnext_trunk") else {
        return;
    };
    for (kind, device) in mrcnn_tests::devices_for_large_networks() {
        equals_torchvision(&golden, kind, &device.autodiff());
    }
}

fn equals_torchvision(golden: &Golden, kind: BackendKind, device: &Device) {
    // Sums of up to 4608 products in another order through 50 layers; a GPU has other instructions.
    let [of_values, of_gradients] = match kind {
        BackendKind::Cpu => [1e-5, 1e-4],
        _ => [1e-3, 1e-3],
    };
    let seed = golden.json["seed"].as_u64().expect("seed");
    let model = recipe::model_with_trunk(&resnext50_32x4d(), seed, device);
    let shape = [2, 3, 96, 64];
    let stream = Stream::named("input.trunk", seed);
    let values = (0..shape.iter().product::<usize>() as u64).map(|i| stream.uniform(i) as f32);
    let input = TensorData::new(values.collect::<Vec<f32>>(), shape);
    let pyramid = model.backbone.forward(Tensor::from_data(input, device));
    let mut worst = [0.0f64; 3];
    for (name, feature) in ["0", "1", "2", "3", "pool"].iter().zip(&pyramid) {
        let found: Vec<f32> = feature.clone().into_data().iter::<f32>().collect();
        let wanted = golden.get(&format!("{name}.first64")).f32();
        let error = max_abs_error(&found[..wanted.len()], &wanted).0 / magnitude(&wanted);
        let sum: f64 = found.iter().map(|value| f64::from(value.abs())).sum();
        let wanted = golden.get(&format!("{name}.sum_abs")).scalar();
        worst[0] = worst[0].max(error);
        worst[1] = worst[1].max((sum - wanted).abs() / wanted);
    }
    let squares = pyramid
        .into_iter()
        .map(|level| (level.clone() * level).mean());
    let total = squares
        .reduce(|sum, level| sum + level)
        .expect("five levels");
    let value: f64 = total.clone().into_data().iter::<f64>().sum();
    let wanted = golden.json["total"].as_f64().expect("the loss");
    worst[1] = worst[1].max((value - wanted).abs() / wanted);
    let found = summaries(&model, &total.backward());
    let wanted = golden.json["grads"].as_object().expect("grads");
    let mut names: Vec<String> = wanted
        .keys()
        .map(|name| format!("backbone.{name}"))
        .collect();
    names.sort();
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), names, "{kind}");
    for (name, found) in found {
        let wanted = &wanted[name.trim_start_matches("backbone.")];
        let norm = wanted["norm"].as_f64().expect("a norm");
        let first = wanted["first8"].as_array().expect("values").iter();
        let errors = first
            .zip(&found.first)
            .map(|(wanted, found)| (wanted.as_f64().expect("a value") - found).abs());
        let error = errors.fold((found.norm - norm).abs(), f64::max) / norm;
        assert!(
            error < of_gradients,
            "{kind} {name}: gradient off by {error:.1e}"
        );
        worst[2] = worst[2].max(error);
    }
    let [features, sums, gradients] = worst;
    println!(
        "{kind}: features {features:.1e}, sums and loss {sums:.1e}, gradients {gradients:.1e}"
    );
    assert!(
        features < of_values && sums < of_values,
        "{kind}: {worst:?}"
    );
}
