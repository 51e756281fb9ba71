//! One training step of R50-FPN and of torchvision's v2 on two real photos: losses, gradients, frozen parameters.

use super::small::step_losses;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{
    Config, ImageConfig, ModelConfig, NormKind, OptimizerKind, RoiConfig, RpnConfig,
};
use mrcnn_core::data::{Instance, Sample};
use mrcnn_core::random::Stream;
use mrcnn_core::train::Losses;
use mrcnn_core::train::parts::{Batch, Optimizer, ParamGradients, TrainSample};
use mrcnn_tests::golden::{Golden, photo};
use mrcnn_tests::recipe;
use serde_json::Value;
use std::collections::BTreeMap;
use vernier_mask::Rle;

fn config(json: &Value, model: ModelConfig) -> Config {
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    let count = |key: &str| number(key) as usize;
    let mut config = Config {
        model,
        ..Config::default()
    };
    assert_eq!(config.model.norm_eps, number("frozen_bn_eps"));
    config.model.rpn = RpnConfig {
        convs: config.model.rpn.convs,
        pre_nms_train: count("rpn_pre_nms_top_n_train"),
        post_nms_train: count("rpn_post_nms_top_n_train"),
        fg_iou: number("rpn_fg_iou_thresh") as f32,
        bg_iou: number("rpn_bg_iou_thresh") as f32,
        batch_per_image: count("rpn_batch_size_per_image"),
        positive_fraction: number("rpn_positive_fraction"),
        ..RpnConfig::default()
    };
    config.model.roi = RoiConfig {
        fg_iou: number("box_fg_iou_thresh") as f32,
        bg_iou: number("box_bg_iou_thresh") as f32,
        batch_per_image: count("box_batch_size_per_image"),
        positive_fraction: number("box_positive_fraction"),
        ..RoiConfig::default()
    };
    let (min_size, max_size) = (count("min_size") as u32, count("max_size") as u32);
    config.image = ImageConfig {
        min_size,
        max_size,
        ..ImageConfig::default()
    };
    config
}

fn sample(target: &Value, config: &ImageConfig) -> Option<TrainSample> {
    let file = target["file"].as_str().expect("file");
    let image = photo(target)?;
    let (height, width) = (image.height(), image.width());
    let boxes = target["boxes_xyxy"].as_array().expect("boxes");
    let instances = boxes.iter().enumerate().map(|(index, bbox)| {
        let counts = target["mask_rle_counts"][index].as_str().expect("counts");
        let mask = Rle::from_string_bytes(counts.as_bytes(), height, width).expect("an RLE");
        Instance {
            annotation_id: index as u64,
            label: target["labels"][index].as_u64().expect("label") as usize,
            bbox: std::array::from_fn(|i| bbox[i].as_f64().expect("a coordinate") as f32),
            area: mask.area() as f64,
            mask,
            is_crowd: false,
        }
    });
    let size = (width, height);
    let sample = Sample::new(0, file, size, instances.collect());
    Some(TrainSample::new(image, &sample, config, false))
}

/// The gradient of a parameter: its norm, and its first eight values.
pub(super) struct GradientSummary {
    pub(super) norm: f64,
    pub(super) first: Vec<f64>,
}

/// A summary of the gradient of every parameter that has one, by name.
pub(super) fn summaries(
    model: &MaskRcnn,
    gradients: &Gradients,
) -> BTreeMap<String, GradientSummary> {
    let mut found = Norms {
        path: Vec::new(),
        gradients,
        norms: BTreeMap::new(),
    };
    model.visit(&mut found);
    found.norms
}

struct Norms<'a> {
    path: Vec<String>,
    gradients: &'a Gradients,
    norms: BTreeMap<String, GradientSummary>,
}

impl ModuleVisitor for Norms<'_> {
    // The variant of an enum is not part of a name.
    fn enter_module(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.push(name.to_string());
        }
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let values: Vec<f64> = gradient.into_data().iter::<f64>().collect();
            let summary = GradientSummary {
                norm: values.iter().map(|g| g * g).sum::<f64>().sqrt(),
                first: values[..values.len().min(8)].to_vec(),
            };
            self.norms.insert(self.path.join("."), summary);
        }
    }
}

/// torchvision's first model with its three trainable stages.
fn r50() -> ModelConfig {
    ModelConfig {
        freeze_at: 2,
        ..recipe::r50_config(1e-5)
    }
}

/// torchvision's v2 with all stages and batch norms trained.
fn r50_v2() -> ModelConfig {
    ModelConfig {
        freeze_at: 0,
        ..recipe::r50_v2_config(NormKind::BatchNorm)
    }
}

/// The configuration and the two photos, for torchvision's first model.
pub(super) fn inputs(json: &Value) -> (Config, Batch) {
    inputs_of(json, r50()).expect("the photos of the first model")
}

fn inputs_of(json: &Value, model: ModelConfig) -> Option<(Config, Batch)> {
    let config = config(&json["config"], model);
    let targets = json["targets"].as_array().expect("targets").iter();
    let samples: Option<Vec<TrainSample>> = targets
        .map(|target| sample(target, &config.image))
        .collect();
    let batch = Batch::new(samples?, config.image.size_divisor);
    Some((config, batch))
}

pub(super) fn seed(json: &Value) -> u64 {
    json["config"]["seed"].as_u64().expect("seed")
}

/// torch's f32 gradient norms differ from its f64 ones by up to 5.2e-4; twice that is allowed.
#[test]
fn losses_and_gradients_equal_torchvision() {
    losses_and_gradients_equal("train_step", r50(), 1e-3);
}

/// Statistics of the batch amplify rounding: torch's f32 norms differ from its f64 ones by up to 1.04e-2; twice that is
/// allowed.
#[test]
fn losses_and_gradients_of_v2_equal_torchvision() {
    losses_and_gradients_equal("train_step_v2", r50_v2(), 2e-2);
}

fn losses_and_gradients_equal(name: &str, model: ModelConfig, allowed: f64) {
    let Some(golden) = Golden::open(name) else {
        return;
    };
    for (kind, device) in mrcnn_tests::devices_for_large_networks() {
        println!("{kind}");
        equals_torchvision(&golden, &model, allowed, &device.autodiff());
    }
}

fn equals_torchvision(golden: &Golden, model: &ModelConfig, allowed: f64, device: &Device) {
    let Some((config, batch)) = inputs_of(&golden.json, model.clone()) else {
        return;
    };
    let model = recipe::model(&config.model, seed(&golden.json), device);

    // The quotas exceed the candidates: every one is sampled, whatever the stream.
    let stream = Stream::named("any", 0);
    let (losses, counts) = step_losses(&model, &batch, stream, device);
    let [_, rois, objects] = counts.read().expect("counts");
    let json = &golden.json;
    let wanted = &json["float32"];
    assert_eq!(wanted["n_box_samples"].as_u64(), Some(rois as u64));
    assert_eq!(wanted["n_mask_samples"].as_u64(), Some(objects as u64));
    let values: Vec<f64> = losses.values().inner().into_data().iter::<f64>().collect();
    for (name, found) in Losses::NAMES.iter().zip(values) {
        let wanted = wanted["losses"][name].as_f64().expect("a loss");
        let error = (found - wanted).abs() / wanted;
        println!("{name:>18}: {found:.6}, relative error {error:.1e}");
        assert!(error < 1e-4, "{name}: {found}, wanted {wanted}");
    }

    let gradients = losses.total().backward();
    let found = summaries(&model, &gradients);
    // f64 is the reference, see the rounding of torch's f32 above.
    let wanted = json["float64"]["grads"].as_object().expect("grads");
    let names: Vec<&String> = found.keys().collect();
    let mut wanted_names: Vec<&String> = wanted.keys().collect();
    wanted_names.sort();
    assert_eq!(names, wanted_names, "trained parameters");
    let mut worst = (0.0, "");
    for (name, GradientSummary { norm: found, .. }) in &found {
        let wanted = wanted[name]["norm"].as_f64().expect("a norm");
        let error = (found - wanted).abs() / wanted;
        assert!(
            error < allowed,
            "{name}: gradient norm {found}, wanted {wanted}"
        );
        worst = if error > worst.0 {
            (error, name)
        } else {
            worst
        };
    }
    println!(
        "{} gradient norms, worst relative error {:.1e} ({})",
        names.len(),
        worst.0,
        worst.1
    );
}

/// The losses before each of three steps: those of the second and third depend on every parameter
/// that was updated, and on the momentum.
///
/// From the second step on, rounding decides on which side of an IoU threshold a proposal falls if its IoU is within
/// 1e-6 of it. The losses of the heads are means over the RoIs (692 in one set of golden values) and over the objects, so one
/// more or less is 1.4e-3 of a loss: 1.6e-3 was measured for both losses of the box head in the third step of one set
/// with fused multiply-add, 1.7e-3 in the second step of another set without it. The losses of the RPN are not affected.
#[test]
fn three_steps_follow_torchs_sgd() {
    let allowed = |name: &str, rois: usize, objects: usize| match name {
        "loss_classifier" | "loss_box_reg" => 2.0 / rois as f64,
        "loss_mask" => 2.0 / objects as f64,
        _ => 1e-3,
    };
    steps_follow("train_step", r50(), 3, &allowed);
}

/// After one step torch's f32 losses differ from its f64 ones by 8.2e-3, 1.9e-2 and 1.3e-2 (classes, boxes, masks) and by
/// 8.4e-4 in the RPN, because statistics of the batch amplify rounding; about twice that is allowed. The third step would
/// compare rounding only.
#[test]
fn two_steps_of_v2_follow_torchs_sgd() {
    let allowed = |name: &str, _, _| match name {
        "loss_classifier" | "loss_box_reg" | "loss_mask" => 4e-2,
        _ => 2e-3,
    };
    steps_follow("train_step_v2", r50_v2(), 2, &allowed);
}

/// Compares the losses before each of `count` steps; `allowed` is the relative tolerance of a loss from the second step on,
/// from its name and the numbers of RoIs and objects.
fn steps_follow(
    name: &str,
    model: ModelConfig,
    count: usize,
    allowed: &dyn Fn(&str, usize, usize) -> f64,
) {
    let Some(golden) = Golden::open(name) else {
        return;
    };
    let Some((mut config, batch)) = inputs_of(&golden.json, model) else {
        return;
    };
    let sgd = &golden.json["sgd"];
    let number = |key: &str| sgd[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    config.train.optimizer = OptimizerKind::Sgd;
    config.train.momentum = number("momentum");
    config.train.weight_decay = number("weight_decay");
    config.train.clip_norm = 0.0;
    let device = Device::flex().autodiff();
    let mut model = recipe::model(&config.model, seed(&golden.json), &device);
    let mut optimizer = Optimizer::new(&config.train);
    let steps = sgd["steps"].as_array().expect("steps").iter();
    for (step, wanted) in steps.take(count).enumerate() {
        let stream = Stream::named("any", 0);
        let (losses, counts) = step_losses(&model, &batch, stream, &device);
        let [_, rois, objects] = counts.read().expect("counts");
        let values = losses.values().inner().into_data();
        for (name, found) in Losses::NAMES.iter().zip(values.iter::<f64>()) {
            let wanted = wanted[name].as_f64().expect("a loss");
            let error = (found - wanted).abs() / wanted;
            println!("step {step} {name:>18}: {found:.6}, relative error {error:.1e}");
            let allowed = match step {
                0 => 1e-4,
                _ => allowed(name, rois, objects),
            };
            assert!(
                error < allowed,
                "step {step} {name}: {found}, wanted {wanted}"
            );
        }
        let gradients = ParamGradients::of(&model, &losses.total().backward());
        let outcome = optimizer.step(&mut model, gradients, number("lr"));
        assert!(outcome.is_applied);
    }
}
