//! Weights as a pure function of name, shape and seed (`shared/oracle/weight_recipe.md`), so that a full-size model can be
//! compared without a weight file.

use burn::tensor::{Device, TensorData};
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::ModelConfig;
use mrcnn_core::random::Stream;
use mrcnn_core::weights::{StateDict, load_state_dict, state_dict};
use std::path::Path;

/// torchvision's `maskrcnn_resnet50_fpn` with 91 classes.
pub fn r50_config(norm_eps: f64) -> ModelConfig {
    ModelConfig {
        num_classes: 91,
        norm_eps,
        ..ModelConfig::default()
    }
}

/// A model with recipe weights.
pub fn model(config: &ModelConfig, seed: u64, device: &Device) -> MaskRcnn {
    let model = MaskRcnn::new(config, seed, device);
    let weights = tensors(&model, seed);
    load_state_dict(model, weights, Path::new("recipe")).expect("the recipe knows every name")
}

/// Values of the recipe for every tensor of a model.
pub fn tensors(model: &MaskRcnn, seed: u64) -> StateDict {
    state_dict(model)
        .into_iter()
        .map(|(name, data)| {
            let shape: Vec<usize> = data.shape().iter().copied().collect();
            let values = tensor(&name, &shape, seed);
            (name, TensorData::new(values, shape))
        })
        .collect()
}

/// Values of the recipe for one tensor, row-major.
pub fn tensor(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let stream = Stream::named(name, seed);
    let count: usize = shape.iter().product();
    let (center, bound) = range(name, shape);
    let value = |i: usize| match zero_sum_block(name, shape) {
        Some(block) => {
            let next = i / block * block + (i % block + 1) % block;
            (stream.uniform(i as u64) - stream.uniform(next as u64))
                * (bound * std::f64::consts::SQRT_2)
        }
        None => center + (2.0 * stream.uniform(i as u64) - 1.0) * bound,
    };
    let mut values: Vec<f64> = (0..count).map(value).collect();
    if name == "roi_heads.box_predictor.cls_score.bias" {
        values[0] += 9.5;
    }
    values.into_iter().map(|value| value as f32).collect()
}

/// Centre and half width of the values.
fn range(name: &str, shape: &[usize]) -> (f64, f64) {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_norm = name.contains(".bn") || name.contains(".downsample.1.");
    match last {
        "weight" if name.ends_with(".bn3.weight") => (0.5, 0.05),
        "weight" if is_norm => (1.0, 0.1),
        "running_var" => (1.0, 0.1),
        "bias" | "running_mean" if is_norm => (0.0, 0.1),
        "bias" => (0.0, 0.02),
        _ => (0.0, gain(name) * (3.0 / fan_in(name, shape)).sqrt()),
    }
}

fn fan_in(name: &str, shape: &[usize]) -> f64 {
    let count = if name.ends_with("conv5_mask.weight") {
        shape[0]
    } else {
        shape[1..].iter().product()
    };
    count as f64
}

fn gain(name: &str) -> f64 {
    match name {
        "rpn.head.cls_logits.weight" => 0.7,
        "rpn.head.bbox_pred.weight" => 0.15,
        "roi_heads.box_head.fc6.weight" => 3.0,
        "roi_heads.box_predictor.cls_score.weight" => 6.0,
        "roi_heads.box_predictor.bbox_pred.weight" => 5.0,
        "roi_heads.mask_predictor.mask_fcn_logits.weight" => 2.0,
        _ if name.starts_with("backbone.fpn.") => 0.4,
        _ if name.contains(".downsample.0.") => 1.0,
        _ => std::f64::consts::SQRT_2,
    }
}

/// Block length of tensors whose blocks sum to zero.
fn zero_sum_block(name: &str, shape: &[usize]) -> Option<usize> {
    match name {
        "roi_heads.box_head.fc6.weight" => Some(49),
        "roi_heads.box_head.fc7.weight"
        | "roi_heads.box_predictor.cls_score.weight"
        | "roi_heads.box_predictor.bbox_pred.weight" => Some(shape[1]),
        _ => None,
    }
}
