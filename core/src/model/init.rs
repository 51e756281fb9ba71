//! Where the parameters of a model come from: their names, initial values and whether they are trained.
//!
//! A part of a model builds its layers from an [`Init`], and says of each parameter how it is filled and of each layer
//! whether it is frozen. Random values are a pure function of the parameter's name and the seed, so that every backend
//! starts from the same ones.

use crate::random::Stream;
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use std::fmt::Display;

/// How a parameter is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// One value.
    Constant(f32),
    /// A normal distribution with this standard deviation.
    Normal(f64),
    /// Kaiming's normal distribution over the outputs, for a ReLU: torchvision's ResNets and mask head.
    KaimingNormal,
    /// Kaiming's uniform distribution over the inputs with `a = 1`: torchvision's FPN and linear layers.
    KaimingUniform,
}

/// The place of a part in a model, and how its parameters are made.
#[derive(Clone, Debug)]
pub struct Init<'a> {
    device: &'a Device,
    /// None leaves every parameter at 0, to be loaded.
    seed: Option<u64>,
    /// The names of the modules above, each with a dot behind it.
    path: String,
    is_frozen: bool,
}

impl<'a> Init<'a> {
    /// Random values for a model on `device`.
    pub fn random(seed: u64, device: &'a Device) -> Self {
        Self {
            device,
            seed: Some(seed),
            path: String::new(),
            is_frozen: false,
        }
    }

    /// Zeros for a model on `device` whose weights are loaded next: 44 million random numbers that nobody uses take
    /// seconds in a browser.
    pub fn zeros(device: &'a Device) -> Self {
        Self {
            seed: None,
            ..Self::random(0, device)
        }
    }

    /// The device.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// The part `name`, which must be the name of the field or the index of the element.
    pub fn child(&self, name: impl Display) -> Self {
        Self {
            path: format!("{}{name}.", self.path),
            ..self.clone()
        }
    }

    /// The same part, frozen if `is_frozen` or if it was.
    pub fn frozen(&self, is_frozen: bool) -> Self {
        Self {
            is_frozen: self.is_frozen || is_frozen,
            ..self.clone()
        }
    }

    /// Whether the part does not learn.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// The parameter `name` of this part.
    pub fn param<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        fill: Fill,
    ) -> Param<Tensor<D>> {
        let tensor = match self.seed {
            Some(seed) => {
                let stream = Stream::named(&format!("{}{name}", self.path), seed);
                let values = TensorData::new(values(stream, &shape, fill), shape);
                Tensor::from_data(values, self.device)
            }
            None => Tensor::zeros(shape, self.device),
        };
        Param::from_tensor(tensor).set_require_grad(!self.is_frozen)
    }
}

/// The values of a parameter whose first axes are its outputs and inputs.
fn values(stream: Stream, shape: &[usize], fill: Fill) -> Vec<f32> {
    let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f64;
    let fan_out = shape.iter().enumerate().filter(|(axis, _)| *axis != 1);
    let fan_out = fan_out.map(|(_, n)| *n).product::<usize>().max(1) as f64;
    let normal = |deviation: f64, i: u64| (stream.normal(i) * deviation) as f32;
    let uniform = |bound: f64, i: u64| ((2.0 * stream.uniform(i) - 1.0) * bound) as f32;
    let count = shape.iter().product::<usize>() as u64;
    (0..count)
        .map(|i| match fill {
            Fill::Constant(value) => value,
            Fill::Normal(deviation) => normal(deviation, i),
            Fill::KaimingNormal => normal((2.0 / fan_out).sqrt(), i),
            Fill::KaimingUniform => uniform((3.0 / fan_in).sqrt(), i),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backbone, ModelConfig, NormKind};
    use crate::model::{MaskRcnn, ModulePath};
    use burn::module::{Module, ModuleVisitor};
    use std::collections::BTreeMap;

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

    /// First value and whether it is trained, of every parameter by its name in the model.
    #[derive(Default)]
    struct Found(ModulePath, BTreeMap<String, (f32, bool)>);

    impl ModuleVisitor for Found {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let trained = value.is_require_grad();
            let first = value.into_data().iter::<f32>().next().unwrap();
            self.1.insert(self.0.name(), (first, trained));
        }
    }

    fn parameters(config: &ModelConfig) -> BTreeMap<String, (f32, bool)> {
        let mut found = Found::default();
        MaskRcnn::new(config, 5, &Device::flex().autodiff()).visit(&mut found);
        found.1
    }

    /// The names that parts build their parameters under are those of the fields, and the values are torchvision's.
    #[test]
    fn parameters_are_filled_by_their_names() {
        let found = parameters(&config(NormKind::BatchNorm, 0));
        let normal =
            |name: &str, deviation: f64| (Stream::named(name, 5).normal(0) * deviation) as f32;
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
}
