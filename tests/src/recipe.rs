//! Weights as a pure function of name, shape and seed (`shared/oracle/weight_recipe.md`), so that a full-size model can be
//! compared without a weight file.

use burn::tensor::{Device, TensorData};
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{ModelConfig, NormKind};
use mrcnn_core::random::Stream;
use mrcnn_core::weights::{StateDict, load_state_dict, state_dict};
use std::collections::BTreeMap;
use std::path::Path;

/// torchvision's `maskrcnn_resnet50_fpn` with 91 classes.
pub fn r50_config(norm_eps: f64) -> ModelConfig {
    ModelConfig {
        num_classes: 91,
        norm_eps,
        ..ModelConfig::default()
    }
}

/// A narrow ResNet-50-FPN with `num_classes` classes and the background, small enough to be built and run within seconds.
pub fn narrow_config(num_classes: usize) -> ModelConfig {
    let mut config = ModelConfig {
        width: 4,
        fpn_channels: 8,
        num_classes: num_classes + 1,
        ..ModelConfig::default()
    };
    config.box_head.hidden = 12;
    config.mask_head.convs = vec![8; 4];
    config.mask_head.hidden = 8;
    config
}

/// torchvision's `maskrcnn_resnet50_fpn_v2` with 91 classes and batch norms of this kind.
pub fn r50_v2_config(norm: NormKind) -> ModelConfig {
    let mut config = r50_config(1e-5);
    (config.norm, config.head_norm) = (norm, norm);
    (config.rpn.convs, config.box_head.convs) = (2, 4);
    config
}

/// A model with recipe weights.
pub fn model(config: &ModelConfig, seed: u64, device: &Device) -> MaskRcnn {
    let model = MaskRcnn::new(config, seed, device);
    let weights = tensors(&model, seed);
    load_state_dict(model, weights, Path::new("recipe"))
        .expect("the recipe has a value for every name")
}

/// Values of the recipe for every tensor of a model.
pub fn tensors(model: &MaskRcnn, seed: u64) -> StateDict {
    tensors_in(model, "", seed)
}

/// A model whose backbone and FPN have the weights of the recipe for a module that consists of them alone; its heads are
/// random.
pub fn model_with_trunk(config: &ModelConfig, seed: u64, device: &Device) -> MaskRcnn {
    let model = MaskRcnn::new(config, seed, device);
    let mut weights = state_dict(&model);
    weights.extend(tensors_in(&model, "backbone.", seed));
    load_state_dict(model, weights, Path::new("recipe"))
        .expect("the recipe has a value for every name")
}

fn tensors_in(model: &MaskRcnn, root: &str, seed: u64) -> StateDict {
    let recipe = match model.config().box_head.convs {
        0 => V1,
        _ => V2,
    };
    let shapes: BTreeMap<String, Vec<usize>> = state_dict(model)
        .into_iter()
        .filter_map(|(name, data)| Some((name.strip_prefix(root)?.into(), data.shape().to_vec())))
        .collect();
    let values = |(name, shape): (&String, &Vec<usize>)| {
        let module = name.rsplit_once('.').map_or("", |(module, _)| module);
        let is_norm = shapes.contains_key(&format!("{module}.running_mean"));
        let values = tensor(&recipe, name, shape, is_norm, seed);
        let data = TensorData::new(values, shape.clone());
        (format!("{root}{name}"), data)
    };
    shapes.iter().map(values).collect()
}

/// Gains of the box predictor and the logit of the background, which differ between the two networks.
struct Recipe {
    class_gain: f64,
    box_gain: f64,
    background: f64,
}

const V1: Recipe = Recipe {
    class_gain: 6.0,
    box_gain: 5.0,
    background: 9.5,
};

const V2: Recipe = Recipe {
    class_gain: 3.0,
    box_gain: 2.0,
    background: 5.5,
};

/// Values of the recipe for one tensor, row-major.
fn tensor(recipe: &Recipe, name: &str, shape: &[usize], is_norm: bool, seed: u64) -> Vec<f32> {
    let stream = Stream::named(name, seed);
    let count: usize = shape.iter().product();
    let (center, bound) = range(recipe, name, shape, is_norm);
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
        values[0] += recipe.background;
    }
    values.into_iter().map(|value| value as f32).collect()
}

/// Center and half width of the values.
fn range(recipe: &Recipe, name: &str, shape: &[usize], is_norm: bool) -> (f64, f64) {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "weight" if name.ends_with(".bn3.weight") => (0.5, 0.05),
        "weight" if is_norm => (1.0, 0.1),
        "running_var" => (1.0, 0.1),
        "bias" | "running_mean" if is_norm => (0.0, 0.1),
        "bias" => (0.0, 0.02),
        _ => (0.0, gain(recipe, name) * (3.0 / fan_in(name, shape)).sqrt()),
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

fn gain(recipe: &Recipe, name: &str) -> f64 {
    match name {
        "rpn.head.cls_logits.weight" => 0.7,
        "rpn.head.bbox_pred.weight" => 0.15,
        "roi_heads.box_head.fc6.weight" | "roi_heads.box_head.5.weight" => 3.0,
        "roi_heads.box_predictor.cls_score.weight" => recipe.class_gain,
        "roi_heads.box_predictor.bbox_pred.weight" => recipe.box_gain,
        "roi_heads.mask_predictor.mask_fcn_logits.weight" => 2.0,
        _ if name.starts_with("backbone.fpn.") => 0.4,
        _ if name.contains(".downsample.0.") => 1.0,
        _ => std::f64::consts::SQRT_2,
    }
}

/// Block length of tensors whose blocks sum to zero.
fn zero_sum_block(name: &str, shape: &[usize]) -> Option<usize> {
    match name {
        "roi_heads.box_head.fc6.weight" | "roi_heads.box_head.5.weight" => Some(49),
        "roi_heads.box_head.fc7.weight"
        | "roi_heads.box_predictor.cls_score.weight"
        | "roi_heads.box_predictor.bbox_pred.weight" => Some(shape[1]),
        _ => None,
    }
}
