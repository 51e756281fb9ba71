//! The network's configuration from the shapes of its tensors.

use crate::config::{Backbone, ModelConfig, NormKind};
use crate::weights::state::StateDict;

/// Infers the network by torchvision's tensor names; settings that do not affect the
/// shapes are torchvision's. Without detection heads, `num_classes` is 0.
pub fn model_config(tensors: &StateDict) -> Result<ModelConfig, String> {
    let shapes = Shapes(tensors);
    let mut config = ModelConfig {
        backbone: shapes.backbone()?,
        width: shapes.get("backbone.body.conv1.weight", 4)?[0],
        norm: NormKind::FrozenBn,
        ..ModelConfig::default()
    };
    if !shapes.has("backbone.body.bn1.running_var") {
        return Err("its backbone has no batch norm statistics".into());
    }
    shapes.groups(&mut config)?;
    if !shapes.has("rpn.head.cls_logits.weight") {
        return Ok(config);
    }
    config.fpn_channels = shapes.get("backbone.fpn.inner_blocks.0.0.weight", 4)?[0];
    let anchors = shapes.get("rpn.head.cls_logits.weight", 4)?[0];
    let known = config.rpn.anchor_ratios.len();
    if anchors != known {
        return Err(format!(
            "its RPN has {anchors} anchors per cell; only {known} are supported: 0.5, 1, 2"
        ));
    }
    config.num_classes = shapes.get("roi_heads.box_predictor.cls_score.weight", 2)?[0];
    config.rpn.convs = shapes.count(|index| format!("rpn.head.conv.{index}.0.weight"));
    if shapes.has("backbone.fpn.inner_blocks.0.1.running_var") {
        config.head_norm = NormKind::FrozenBn;
    }
    let convs = shapes.count(|index| format!("roi_heads.box_head.{index}.0.weight"));
    let linear = match convs {
        0 => "roi_heads.box_head.fc6.weight".to_string(),
        convs => format!("roi_heads.box_head.{}.weight", convs + 1),
    };
    let linear = shapes.get(&linear, 2)?;
    config.box_head.convs = convs;
    config.box_head.hidden = linear[0];
    config.box_head.pool = (linear[1] / config.fpn_channels.max(1)).isqrt();
    let convs = (0..).map(|index| format!("roi_heads.mask_head.{index}.0.weight"));
    config.mask_head.convs = convs
        .map_while(|name| Some(shapes.get(&name, 4).ok()?[0]))
        .collect();
    config.mask_head.hidden = shapes.get("roi_heads.mask_predictor.conv5_mask.weight", 4)?[1];
    Ok(config)
}

struct Shapes<'a>(&'a StateDict);

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn get(&self, name: &str, rank: usize) -> Result<&[usize], String> {
        let data = self
            .0
            .get(name)
            .ok_or_else(|| format!("{name} is missing"))?;
        let shape: &[usize] = data.shape();
        if shape.len() != rank {
            return Err(format!("{name} is {shape:?}, expected {rank} dimensions"));
        }
        Ok(shape)
    }

    /// The number of names from index 0 on that exist.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&index| self.has(&name(index))).count()
    }

    /// Groups and their width, from the 3x3 convolution of the first bottleneck: `[inner, inner / groups, 3, 3]`.
    fn groups(&self, config: &mut ModelConfig) -> Result<(), String> {
        if config.backbone.expansion() == 1 {
            return Ok(());
        }
        let name = "backbone.body.layer1.0.conv2.weight";
        let &[inner, of_group, ..] = self.get(name, 4)? else {
            return Err(format!("{name} does not have 4 dimensions"));
        };
        config.groups = inner / of_group.max(1);
        config.width_per_group = of_group * 64 / config.width.max(1);
        match config.inner_width(0) == inner {
            true => Ok(()),
            false => Err(format!(
                "{name} has {inner} outputs and {of_group} inputs per group, which is not possible for a stem of {} \
                 channels",
                config.width
            )),
        }
    }

    fn backbone(&self) -> Result<Backbone, String> {
        let blocks = [1, 2, 3, 4].map(|stage| {
            self.count(|block| format!("backbone.body.layer{stage}.{block}.conv1.weight"))
        });
        let bottleneck = self.has("backbone.body.layer1.0.conv3.weight");
        let known = [
            Backbone::Resnet18,
            Backbone::Resnet34,
            Backbone::Resnet50,
            Backbone::Resnet101,
            Backbone::Resnet152,
        ];
        let fits = |backbone: &Backbone| {
            backbone.blocks() == blocks && (backbone.expansion() == 4) == bottleneck
        };
        known.into_iter().find(fits).ok_or_else(|| {
            format!("its backbone has stages of {blocks:?} blocks, which is not a supported ResNet")
        })
    }
}
