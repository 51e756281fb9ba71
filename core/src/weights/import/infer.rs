//! The network's configuration from the shapes of its tensors.

use crate::config::{Backbone, ModelConfig, NormKind};
use crate::weights::state::StateDict;

/// Infers the network by torchvision's tensor names; settings that do not affect the
/// shapes are torchvision's. Without detection heads, `num_classes` is 0.
pub fn model_config(tensors: &StateDict) -> Result<ModelConfig, String> {
    let shapes = Shapes(tensors);
    if shapes.has("roi_heads.box_head.0.0.weight") {
        return Err(
            "it has the box head of torchvision's v2 models (4 convolutions), which is not \
             supported: use the weights of maskrcnn_resnet50_fpn"
                .into(),
        );
    }
    let mut config = ModelConfig {
        backbone: shapes.backbone()?,
        width: shapes.get("backbone.body.conv1.weight", 4)?[0],
        norm: NormKind::FrozenBn,
        ..ModelConfig::default()
    };
    if !shapes.has("backbone.body.bn1.running_var") {
        return Err("its backbone has no batch norm statistics".into());
    }
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
    let fc6 = shapes.get("roi_heads.box_head.fc6.weight", 2)?;
    config.box_head.hidden = fc6[0];
    config.box_head.pool = (fc6[1] / config.fpn_channels.max(1)).isqrt();
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

    fn backbone(&self) -> Result<Backbone, String> {
        let blocks = [1, 2, 3, 4].map(|stage| {
            let first = |block: &usize| {
                self.has(&format!("backbone.body.layer{stage}.{block}.conv1.weight"))
            };
            (0..).take_while(first).count()
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
