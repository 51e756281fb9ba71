//! Initial weights, a pure function of the parameter's name and the seed, so that every backend
//! starts from the same ones.

use super::MaskRcnn;
use super::path::ModulePath;
use crate::config::ModelConfig;
use crate::random::Stream;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

/// Fills every parameter as torchvision does before training, and freezes what the configuration
/// freezes.
pub(super) fn initialize(model: MaskRcnn, config: &ModelConfig, seed: u64) -> MaskRcnn {
    model.map(&mut Initializer {
        path: ModulePath::default(),
        config,
        seed,
    })
}

struct Initializer<'a> {
    path: ModulePath,
    config: &'a ModelConfig,
    seed: u64,
}

/// How a parameter is filled.
enum Fill {
    Constant(f32),
    Normal(f64),
    Uniform(f64),
}

impl ModuleMapper for Initializer<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let shape = param.lazy_shape();
        let dims: Vec<usize> = shape.iter().copied().collect();
        let stream = Stream::named(&name, self.seed);
        let count = shape.num_elements();
        let fill = fill(&name, &dims);
        let values: Vec<f32> = (0..count as u64)
            .map(|i| match fill {
                Fill::Constant(value) => value,
                Fill::Normal(deviation) => (stream.normal(i) * deviation) as f32,
                Fill::Uniform(bound) => ((2.0 * stream.uniform(i) - 1.0) * bound) as f32,
            })
            .collect();
        let trained = is_trained(&name, self.config);
        let param = param
            .map(|old| Tensor::from_data(TensorData::new(values, shape), &old.device()).detach());
        param.set_require_grad(trained)
    }
}

fn fill(name: &str, shape: &[usize]) -> Fill {
    let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f64;
    let fan_out = shape.iter().enumerate().filter(|(axis, _)| *axis != 1);
    let fan_out = fan_out.map(|(_, n)| *n).product::<usize>().max(1) as f64;
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        // The norms' weights are the only ones of one dimension.
        "weight" if shape.len() == 1 => Fill::Constant(1.0),
        "running_var" => Fill::Constant(1.0),
        "weight" if name.starts_with("rpn.") => Fill::Normal(0.01),
        "weight" if name.contains("cls_score") => Fill::Normal(0.01),
        "weight" if name.contains("bbox_pred") => Fill::Normal(0.001),
        // Kaiming uniform with a = 1 over the inputs: torchvision's FPN and linear layers.
        "weight" if name.contains("fpn.") => Fill::Uniform((3.0 / fan_in).sqrt()),
        "weight" if name.contains("box_head") => Fill::Uniform((3.0 / fan_in).sqrt()),
        // As Detectron2: torchvision's Kaiming would start narrow heads at logits of tens.
        "weight" if name.contains("mask_fcn_logits") => Fill::Normal(0.001),
        // A transposed 2x2 convolution with stride 2 sums over its input channels, axis 0.
        "weight" if name.contains("conv5_mask") => Fill::Normal((2.0 / shape[0] as f64).sqrt()),
        "weight" => Fill::Normal((2.0 / fan_out).sqrt()),
        _ => Fill::Constant(0.0),
    }
}

/// Whether a parameter learns: not in the frozen parts, not in a frozen norm, no statistics.
fn is_trained(name: &str, config: &ModelConfig) -> bool {
    use crate::config::NormKind;
    let part = match name.strip_prefix("backbone.body.") {
        Some(rest) if rest.starts_with("layer") => rest
            .strip_prefix("layer")
            .and_then(|rest| rest.split('.').next())
            .and_then(|stage| stage.parse::<usize>().ok())
            .map_or(usize::MAX, |stage| stage + 1),
        Some(_) => 1,
        None => usize::MAX,
    };
    let in_norm = name.contains(".bn") || name.contains(".downsample.1.");
    let statistics = name.ends_with("running_mean") || name.ends_with("running_var");
    let frozen_norm = in_norm && config.norm == NormKind::FrozenBn;
    part > config.freeze_at && !statistics && !frozen_norm
}
