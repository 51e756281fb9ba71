//! Layers: convolutions of every kind, initial values and frozen parts of a model.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{Backbone, ModelConfig, NormKind};
use mrcnn_core::model::{Conv2d, ConvSettings, Init};
use mrcnn_core::random::Stream;
use mrcnn_tests::close::{assert_close, magnitude};
use std::collections::BTreeMap;

/// Grouped convolutions and even kernels compared with their definition.
#[test]
fn grouped_and_even_convolutions_follow_their_definition() {
    let device = Device::flex();
    for (groups, kernel, stride, padding) in [
        (1, 3, 1, 1),
        (4, 3, 2, 1),
        (2, 1, 1, 0),
        (1, 2, 2, 0),
        (4, 4, 4, 0),
        (8, 3, 1, 1),
    ] {
        let settings = ConvSettings {
            stride,
            padding,
            groups,
            bias: true,
            ..ConvSettings::new(8, 8, kernel)
        };
        let conv = Conv2d::new(&Init::random(1, &device).child("conv"), settings);
        let (rows, columns) = (8, 12);
        let x: Vec<f32> = (0..8 * rows * columns)
            .map(|i| (i * 37 % 101) as f32)
            .collect();
        let data = TensorData::new(x.clone(), [1, 8, rows, columns]);
        let found = conv.forward(Tensor::from_data(data, &device));
        let [_, outputs, height, width] = found.dims();
        let weight: Vec<f32> = conv.weight.val().into_data().iter::<f32>().collect();
        let per_group = 8 / groups;
        let mut wanted = Vec::new();
        for (output, y, x_out) in (0..outputs)
            .flat_map(|o| (0..height).flat_map(move |y| (0..width).map(move |x| (o, y, x))))
        {
            let mut sum = 0.0f64;
            for (channel, i, j) in (0..per_group)
                .flat_map(|c| (0..kernel).flat_map(move |i| (0..kernel).map(move |j| (c, i, j))))
            {
                let (row, column) = (y * stride + i, x_out * stride + j);
                let inside = (padding..rows + padding).contains(&row)
                    && (padding..columns + padding).contains(&column);
                if inside {
                    let from = output / per_group * per_group + channel;
                    let value = x[(from * rows + row - padding) * columns + column - padding];
                    let index = ((output * per_group + channel) * kernel + i) * kernel + j;
                    sum += f64::from(value) * f64::from(weight[index]);
                }
            }
            wanted.push(sum);
        }
        let found: Vec<f64> = found.into_data().iter::<f64>().collect();
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            // Sums of up to 72 products of up to 100 in f32.
            assert!(
                (found - wanted).abs() < 1e-3,
                "{settings:?}: {found}, {wanted}"
            );
        }
    }
}

fn config(norm: NormKind, freeze_at: usize) -> ModelConfig {
    let mut config = ModelConfig {
        backbone: Backbone::Resnet18,
        width: 4,
        fpn_channels: 8,
        num_classes: 3,
        norm,
        head_norm: NormKind::GroupNorm,
        freeze_at,
        ..ModelConfig::default()
    };
    (config.box_head.hidden, config.mask_head.convs) = (8, vec![8]);
    config.mask_head.hidden = 8;
    config
}

/// First value of every parameter, and whether it is trained, by its name in the model.
#[derive(Default)]
struct Found(Vec<String>, BTreeMap<String, (f32, bool)>);

impl ModuleVisitor for Found {
    // The variant of an enum is not part of a name.
    fn enter_module(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_string());
        }
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let trained = value.is_require_grad();
        let first = value.into_data().iter::<f32>().next();
        self.1
            .insert(self.0.join("."), (first.expect("a value"), trained));
    }
}

fn parameters(config: &ModelConfig) -> BTreeMap<String, (f32, bool)> {
    let mut found = Found::default();
    MaskRcnn::new(config, 5, &Device::flex().autodiff()).visit(&mut found);
    found.1
}

/// The names under which parts build their parameters are those of the fields, and the values are torchvision's.
#[test]
fn parameters_are_filled_by_their_names() {
    let found = parameters(&config(NormKind::BatchNorm, 0));
    let normal = |name: &str, deviation: f64| (Stream::named(name, 5).normal(0) * deviation) as f32;
    let uniform = |name: &str, fan_in: f64| {
        ((2.0 * Stream::named(name, 5).uniform(0) - 1.0) * (3.0 / fan_in).sqrt()) as f32
    };
    for (name, deviation) in [
        ("backbone.body.conv1.weight", (2.0f64 / (4.0 * 49.0)).sqrt()),
        (
            "backbone.body.layer2.0.conv2.weight",
            (2.0f64 / (8.0 * 9.0)).sqrt(),
        ),
        (
            "backbone.body.layer2.0.downsample.0.weight",
            (2.0f64 / 8.0).sqrt(),
        ),
        ("rpn.head.conv.0.0.weight", 0.01),
        ("rpn.head.bbox_pred.weight", 0.01),
        ("roi_heads.box_predictor.cls_score.weight", 0.01),
        ("roi_heads.box_predictor.bbox_pred.weight", 0.001),
        (
            "roi_heads.mask_head.0.0.weight",
            (2.0f64 / (8.0 * 9.0)).sqrt(),
        ),
        (
            "roi_heads.mask_predictor.conv5_mask.weight",
            (2.0f64 / 8.0).sqrt(),
        ),
        ("roi_heads.mask_predictor.mask_fcn_logits.weight", 0.001),
    ] {
        assert_eq!(found[name].0, normal(name, deviation), "{name}");
    }
    for (name, fan_in) in [
        ("backbone.fpn.inner_blocks.1.0.weight", 8.0),
        ("backbone.fpn.layer_blocks.3.0.weight", 8.0 * 9.0),
        ("roi_heads.box_head.fc6.weight", 8.0 * 49.0),
        ("roi_heads.box_head.fc7.weight", 8.0),
    ] {
        assert_eq!(found[name].0, uniform(name, fan_in), "{name}");
    }
    for (name, value) in [
        ("backbone.body.bn1.weight", 1.0),
        ("backbone.body.bn1.bias", 0.0),
        ("backbone.body.bn1.running_mean", 0.0),
        ("backbone.body.bn1.running_var", 1.0),
        ("backbone.fpn.inner_blocks.1.1.weight", 1.0),
        ("roi_heads.box_head.fc6.bias", 0.0),
    ] {
        assert_eq!(found[name].0, value, "{name}");
    }
}

/// Output, and the gradients of the input and of the weights, on every device: ResNeXt's groups of 4 and of 16 channels.
#[test]
fn grouped_convolutions_are_the_same_on_every_device() {
    let cases = [(32, 4, 1), (32, 4, 2), (8, 16, 1), (4, 1, 1)];
    let run = |(groups, per_group, stride): (usize, usize, usize), device: &Device| {
        let device = device.clone().autodiff();
        let channels = groups * per_group;
        let settings = ConvSettings {
            stride,
            groups,
            ..ConvSettings::new(channels, channels, 3)
        };
        let conv = Conv2d::new(&Init::random(1, &device).child("conv"), settings);
        let tensor = |name: &str, shape: [usize; 4]| {
            let stream = Stream::named(name, 2);
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count as u64)
                .map(|i| stream.uniform(i) as f32)
                .collect();
            Tensor::<4>::from_data(TensorData::new(values, shape), &device)
        };
        let x = tensor("x", [2, channels, 9, 12]).require_grad();
        let y = conv.forward(x.clone());
        let weights = tensor("grad", y.dims());
        let gradients = (y.clone() * weights).sum().backward();
        [
            y.inner(),
            x.grad(&gradients).expect("a gradient"),
            conv.weight.val().grad(&gradients).expect("a gradient"),
        ]
        .map(|tensor| tensor.into_data().iter::<f32>().collect::<Vec<f32>>())
    };
    for case in cases {
        let wanted = run(case, &Device::flex());
        for (kind, device) in mrcnn_tests::devices() {
            let names = ["output", "gradient of x", "gradient of the weights"];
            for ((found, wanted), name) in run(case, &device).iter().zip(&wanted).zip(names) {
                // Sums of up to 216 products in another order.
                let allowed = 1e-5 * magnitude(wanted);
                assert_close(&format!("{kind} {case:?} {name}"), found, wanted, allowed);
            }
        }
    }
}

/// The layers of torchvision's v2, under its names and with its initial values.
#[test]
fn v2_is_filled_by_its_names() {
    let mut config = config(NormKind::BatchNorm, 0);
    config.head_norm = NormKind::BatchNorm;
    (config.rpn.convs, config.box_head.convs) = (2, 4);
    let found = parameters(&config);
    let normal = |name: &str, deviation: f64| (Stream::named(name, 5).normal(0) * deviation) as f32;
    for (name, deviation) in [
        ("rpn.head.conv.1.0.weight", 0.01),
        (
            "roi_heads.box_head.3.0.weight",
            (2.0f64 / (8.0 * 9.0)).sqrt(),
        ),
    ] {
        assert_eq!(found[name].0, normal(name, deviation), "{name}");
    }
    let uniform = 2.0 * Stream::named("roi_heads.box_head.5.weight", 5).uniform(0) - 1.0;
    let bound = (3.0f64 / (8.0 * 49.0)).sqrt();
    assert_eq!(
        found["roi_heads.box_head.5.weight"].0,
        (uniform * bound) as f32
    );
    let head = found
        .keys()
        .filter(|name| name.starts_with("roi_heads.box_head."));
    // Weight of the convolution; weight, bias, mean and variance of the norm; the fully connected layer.
    assert_eq!(head.count(), 4 * 5 + 2);
    assert!(found.values().filter(|(_, trained)| !trained).count() == 2 * norms(&found));
}

/// Number of batch norms.
fn norms(found: &BTreeMap<String, (f32, bool)>) -> usize {
    let of_norms = found.keys().filter(|name| name.ends_with(".running_var"));
    of_norms.count()
}

#[test]
fn frozen_parts_and_norms_are_not_trained() {
    let frozen = |norm, freeze_at| -> Vec<String> {
        let found = parameters(&config(norm, freeze_at)).into_iter();
        let frozen = found.filter(|(name, (_, trained))| !trained && !name.contains("running"));
        frozen.map(|(name, _)| name).collect()
    };
    assert!(frozen(NormKind::GroupNorm, 0).is_empty());
    let stem = ["backbone.body.bn1.bias", "backbone.body.bn1.weight"];
    let conv = "backbone.body.conv1.weight";
    assert_eq!(
        frozen(NormKind::BatchNorm, 1),
        [&stem[..], &[conv]].concat()
    );
    let second = frozen(NormKind::None, 3);
    let parts = [
        "backbone.body.conv1.",
        "backbone.body.layer1.",
        "backbone.body.layer2.",
    ];
    assert!(
        second
            .iter()
            .all(|name| parts.iter().any(|part| name.starts_with(part)))
    );
    assert_eq!(second.len(), 1 + 4 + 5);
    let norms = frozen(NormKind::FrozenBn, 0);
    assert!(
        norms
            .iter()
            .all(|name| name.contains(".bn") || name.contains(".downsample.1."))
    );
    assert_eq!(norms.len(), 2 * (1 + 8 * 2 + 3));
}
