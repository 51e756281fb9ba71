//! Names and layouts of the reference system's TensorFlow checkpoints: `resnet-nhwc-*` (numbered
//! layers), NVIDIA's ResNet-50 (`btlnck_block_*`), and the detector that it trains.

use super::views::permuted;
use crate::config::Backbone;

/// Conversion of a TensorFlow variable to one of our tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Unchanged.
    Same,
    /// Convolution, `[h, w, in, out]` -> `[out, in, h, w]`.
    Conv,
    /// Transposed convolution, `[h, w, out, in]` -> `[in, out, h, w]`.
    Deconv,
    /// Fully connected, `[in, out]` -> `[out, in]`.
    Linear,
    /// The first layer after pooling to `pool x pool`: `[h * w * c, out]` -> `[out, c * h * w]`.
    Pooled(usize),
    /// A convolution to box deltas, in the order `dy, dx, dh, dw`.
    ConvDeltas,
    /// A fully connected layer to box deltas.
    LinearDeltas,
    /// A bias of box deltas.
    BiasDeltas,
}

/// Our name and the layout of a variable; `None` for step counters, optimizer slots and classifiers.
///
/// `pool` is the side of the box head's pooled RoIs.
pub fn rename(name: &str, backbone: Backbone, pool: usize) -> Option<(String, Layout)> {
    let (module, kind) = name.rsplit_once('/')?;
    let named = |ours: &str, weight| {
        let (kind, layout) = match kind {
            "kernel" => ("weight", weight),
            "bias" => match weight {
                Layout::ConvDeltas | Layout::LinearDeltas => ("bias", Layout::BiasDeltas),
                _ => ("bias", Layout::Same),
            },
            "gamma" => ("weight", Layout::Same),
            "beta" => ("bias", Layout::Same),
            "moving_mean" => ("running_mean", Layout::Same),
            "moving_variance" => ("running_var", Layout::Same),
            _ => return None,
        };
        Some((format!("{ours}.{kind}"), layout))
    };
    if let Some(ours) = body(module, backbone) {
        return named(&format!("backbone.body.{ours}"), Layout::Conv);
    }
    let parts: Vec<&str> = module.rsplitn(2, '/').collect();
    let (layer, scope) = (parts[0], parts.get(1).copied().unwrap_or_default());
    let level = |prefix: &str| {
        layer
            .strip_prefix(prefix)?
            .parse::<usize>()
            .ok()?
            .checked_sub(2)
    };
    let (ours, layout) = match (scope.rsplit('/').next().unwrap_or_default(), layer) {
        ("fpn", _) => match (level("l"), level("post_hoc_d")) {
            (Some(level), _) => (format!("backbone.fpn.inner_blocks.{level}.0"), Layout::Conv),
            (_, Some(level)) => (format!("backbone.fpn.layer_blocks.{level}.0"), Layout::Conv),
            _ => return None,
        },
        ("rpn_head", "rpn") => ("rpn.head.conv.0.0".into(), Layout::Conv),
        ("rpn_head", "rpn-class") => ("rpn.head.cls_logits".into(), Layout::Conv),
        ("rpn_head", "rpn-box") => ("rpn.head.bbox_pred".into(), Layout::ConvDeltas),
        ("box_head", "fc6") => ("roi_heads.box_head.fc6".into(), Layout::Pooled(pool)),
        ("box_head", "fc7") => ("roi_heads.box_head.fc7".into(), Layout::Linear),
        ("box_head", "class-predict") => {
            ("roi_heads.box_predictor.cls_score".into(), Layout::Linear)
        }
        ("box_head", "box-predict") => (
            "roi_heads.box_predictor.bbox_pred".into(),
            Layout::LinearDeltas,
        ),
        ("mask_head", "conv5-mask") => {
            ("roi_heads.mask_predictor.conv5_mask".into(), Layout::Deconv)
        }
        ("mask_head", "mask_fcn_logits") => (
            "roi_heads.mask_predictor.mask_fcn_logits".into(),
            Layout::Conv,
        ),
        ("mask_head", other) => {
            let index = other.strip_prefix("mask-conv-l")?.parse::<usize>().ok()?;
            (format!("roi_heads.mask_head.{index}.0"), Layout::Conv)
        }
        _ => return None,
    };
    named(&ours, layout)
}

/// The layer of a backbone's variable: `conv2d_5`, `batch_normalization_5`, or NVIDIA's names.
fn body(module: &str, backbone: Backbone) -> Option<String> {
    let module = module.strip_prefix("resnet50/").unwrap_or(module);
    let numbered = |prefix: &str| match module.strip_prefix(prefix)? {
        "" => Some(0),
        rest => rest.strip_prefix('_')?.parse::<usize>().ok(),
    };
    if let Some(index) = numbered("conv2d") {
        return layer(index, backbone, ["conv", "downsample.0"]);
    }
    if let Some(index) = numbered("batch_normalization") {
        return layer(index, backbone, ["bn", "downsample.1"]);
    }
    match module {
        "conv2d/conv2d" => return Some("conv1".into()),
        "conv2d/BatchNorm" => return Some("bn1".into()),
        _ => {}
    }
    let (block, inner) = module.strip_prefix("btlnck_block_")?.split_once('/')?;
    let (stage, block) = block.split_once('_')?;
    let stage = stage.parse::<usize>().ok()? + 1;
    let inner = match inner {
        "shortcut/conv2d/conv2d" => "downsample.0".to_string(),
        "shortcut/conv2d/BatchNorm" => "downsample.1".to_string(),
        other => {
            let (index, kind) = other.strip_prefix("bottleneck_")?.split_once('/')?;
            match kind {
                "conv2d" => format!("conv{index}"),
                "BatchNorm" => format!("bn{index}"),
                _ => return None,
            }
        }
    };
    Some(format!("layer{stage}.{block}.{inner}"))
}

/// The layer with a running number: the stem, then the blocks in order, the projection first in each.
fn layer(index: usize, backbone: Backbone, [plain, projection]: [&str; 2]) -> Option<String> {
    if index == 0 {
        return Some(format!("{plain}1"));
    }
    let convs = if backbone.expansion() == 1 { 2 } else { 3 };
    let mut next = 1;
    for (stage, blocks) in backbone.blocks().into_iter().enumerate() {
        for block in 0..blocks {
            let first = next + (block == 0) as usize;
            if index < first {
                return Some(format!("layer{}.{block}.{projection}", stage + 1));
            }
            if index < first + convs {
                return Some(format!(
                    "layer{}.{block}.{plain}{}",
                    stage + 1,
                    index - first + 1
                ));
            }
            next = first + convs;
        }
    }
    None
}

impl Layout {
    /// The values and the shape in our layout; `None` if the shape does not fit the layout.
    pub fn apply(self, values: &[f32], shape: &[usize]) -> Option<(Vec<f32>, Vec<usize>)> {
        let rank = match self {
            Self::Same | Self::BiasDeltas => 1,
            Self::Conv | Self::Deconv | Self::ConvDeltas => 4,
            Self::Linear | Self::Pooled(_) | Self::LinearDeltas => 2,
        };
        if shape.len() != rank {
            return None;
        }
        match self {
            Self::Same => Some((values.to_vec(), shape.to_vec())),
            // The same permutation: their layout is height, width, output, input.
            Self::Conv | Self::Deconv => Some(permuted(values, shape, &[3, 2, 0, 1])),
            Self::Linear => Some(permuted(values, shape, &[1, 0])),
            Self::Pooled(pool) => {
                let (input, output) = (shape[0], shape[1]);
                let channels = input / (pool * pool);
                if channels * pool * pool != input {
                    return None;
                }
                let wide = [pool, pool, channels, output];
                let (values, _) = permuted(values, &wide, &[3, 2, 0, 1]);
                Some((values, vec![output, input]))
            }
            Self::ConvDeltas => x_first(Self::Conv.apply(values, shape)?),
            Self::LinearDeltas => x_first(Self::Linear.apply(values, shape)?),
            Self::BiasDeltas => x_first((values.to_vec(), shape.to_vec())),
        }
    }
}

/// Reorders groups of four rows from `dy, dx, dh, dw` to `dx, dy, dw, dh`.
fn x_first((mut values, shape): (Vec<f32>, Vec<usize>)) -> Option<(Vec<f32>, Vec<usize>)> {
    let outputs = *shape.first()?;
    if outputs == 0 || !outputs.is_multiple_of(4) {
        return None;
    }
    let row = (values.len() / outputs).max(1);
    for pair in values.chunks_mut(2 * row) {
        pair.rotate_left(row);
    }
    Some((values, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_layers_follow_the_order_of_their_making() {
        let name = |theirs: &str| rename(theirs, Backbone::Resnet50, 7).map(|(name, _)| name);
        for (theirs, ours) in [
            ("conv2d/kernel", "conv1.weight"),
            (
                "resnet50/batch_normalization/moving_variance",
                "bn1.running_var",
            ),
            ("conv2d_1/kernel", "layer1.0.downsample.0.weight"),
            ("conv2d_2/kernel", "layer1.0.conv1.weight"),
            ("conv2d_4/kernel", "layer1.0.conv3.weight"),
            ("conv2d_5/kernel", "layer1.1.conv1.weight"),
            (
                "batch_normalization_11/gamma",
                "layer2.0.downsample.1.weight",
            ),
            ("conv2d_52/kernel", "layer4.2.conv3.weight"),
            (
                "resnet50/btlnck_block_3_2/bottleneck_3/BatchNorm/gamma",
                "layer4.2.bn3.weight",
            ),
        ] {
            assert_eq!(
                name(theirs),
                Some(format!("backbone.body.{ours}")),
                "{theirs}"
            );
        }
        assert_eq!(name("conv2d_53/kernel"), None);
        assert_eq!(name("conv2d_1/kernel/Momentum"), None);
        assert_eq!(name("dense/kernel"), None);
    }

    #[test]
    fn deltas_change_places() {
        let bias = Layout::BiasDeltas.apply(&[1.0, 2.0, 3.0, 4.0], &[4]);
        assert_eq!(bias, Some((vec![2.0, 1.0, 4.0, 3.0], vec![4])));
        // One input: dy, dx, dh, dw of a box are adjacent.
        let weight = Layout::LinearDeltas.apply(&[1.0, 2.0, 3.0, 4.0], &[1, 4]);
        assert_eq!(weight, Some((vec![2.0, 1.0, 4.0, 3.0], vec![4, 1])));
    }
}
