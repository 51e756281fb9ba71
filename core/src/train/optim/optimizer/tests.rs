use super::*;
use crate::config::{ModelConfig, NormKind};
use burn::tensor::Device;

/// The values after each of three steps on `p = 1`, gradients 0.5, -0.2, 0.1.
fn steps(kind: OptimizerKind) -> Vec<f32> {
    let config = TrainConfig {
        optimizer: kind,
        ..TrainConfig::default()
    };
    let mut optimizer = Optimizer::new(&config);
    let id = ParamId::new();
    let tensor = |v: f32| Tensor::<1>::from_floats([v], &Device::flex());
    let mut value = tensor(1.0);
    let mut found = Vec::new();
    for gradient in [0.5, -0.2, 0.1] {
        optimizer.steps += 1;
        let param = ExtractedParam {
            id,
            value,
            gradient: tensor(gradient),
            factors: ParamFactors {
                decay: 0.1,
                scale: 1.0,
            },
        };
        let mut values = optimizer.update_params(vec![param], 0.1);
        value = values.remove(&id).expect("it was updated");
        found.push(value.clone().into_scalar::<f32>());
    }
    found
}

#[test]
fn sgd_follows_its_formula() {
    // v: 0.6, 0.434, 0.5808...; by hand.
    let (mut p, mut v) = (1.0f64, 0.0);
    for (found, g) in steps(OptimizerKind::Sgd).into_iter().zip([0.5, -0.2, 0.1]) {
        v = 0.9 * v + g + 0.1 * p;
        p -= 0.1 * v;
        assert!((found as f64 - p).abs() < 1e-6, "{found}, wanted {p}");
    }
}

#[test]
fn adamw_follows_its_formula() {
    let (mut p, mut m, mut v) = (1.0f64, 0.0, 0.0);
    for (t, (found, g)) in (1..).zip(
        steps(OptimizerKind::Adamw)
            .into_iter()
            .zip([0.5f64, -0.2, 0.1]),
    ) {
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        let step = m / (1.0 - 0.9f64.powi(t)) / ((v / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
        p -= 0.1 * (step + 0.1 * p);
        assert!((found as f64 - p).abs() < 1e-5, "{found}, wanted {p}");
    }
}

/// The update of each parameter for a gradient of 1, by name, and its value before.
fn moved(config: &TrainConfig) -> Vec<(String, f32, f32)> {
    use crate::train::optim::optimizer_state::names;
    use crate::weights::state_dict;
    let model_config = ModelConfig {
        width: 2,
        fpn_channels: 2,
        num_classes: 2,
        norm: NormKind::BatchNorm,
        head_norm: NormKind::GroupNorm,
        freeze_at: 0,
        ..ModelConfig::default()
    };
    let mut model = MaskRcnn::new(&model_config, 0, &Device::flex().autodiff());
    let before = state_dict(&model);
    let ones = names(&model).into_iter().map(|(name, id)| {
        let count = before[&name].shape().num_elements();
        (id, Tensor::ones([count], &Device::flex()))
    });
    let gradients = ParamGradients::new(ones.collect());
    Optimizer::new(config).step(&mut model, gradients, 1.0);
    let after = state_dict(&model);
    let first = |data: &burn::tensor::TensorData| data.iter::<f32>().next().unwrap();
    let all = before.iter().filter(|(name, _)| !name.contains("running"));
    all.map(|(name, data)| {
        let (old, new) = (first(data), first(&after[name]));
        (name.clone(), old, old - new)
    })
    .collect()
}

#[test]
fn decay_and_bias_gradients_reach_their_parameters() {
    for scope in [
        DecayScope::All,
        DecayScope::WithoutNorms,
        DecayScope::Weights,
    ] {
        let config = TrainConfig {
            weight_decay: 0.5,
            decay: scope,
            bias_gradient: 2.0,
            ..TrainConfig::default()
        };
        let moved = moved(&config);
        assert!(moved.len() > 200, "{}", moved.len());
        for (name, old, delta) in moved {
            // Convolutions followed by a norm are the first of a pair, norms the second.
            let is_norm = name.contains("bn")
                || [
                    "downsample.1.",
                    "blocks.0.1.",
                    "blocks.1.1.",
                    "blocks.2.1.",
                    "blocks.3.1.",
                ]
                .iter()
                .any(|part| name.contains(part))
                || (name.contains("mask_head") && name.rsplit('.').nth(1) == Some("1"));
            let is_bias = name.ends_with(".bias");
            let decays = match scope {
                DecayScope::All => true,
                DecayScope::WithoutNorms => !is_norm,
                DecayScope::Weights => !is_norm && !is_bias,
            };
            let wanted = if is_bias { 2.0 } else { 1.0 } + if decays { 0.5 * old } else { 0.0 };
            assert!(
                (delta - wanted).abs() < 1e-5,
                "{scope:?} {name}: {delta}, {wanted}"
            );
        }
    }
}
