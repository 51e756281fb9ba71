//! Detectron2's names and class order.

use crate::weights::state::StateDict;
use burn::tensor::TensorData;

/// Our name of a tensor of `GeneralizedRCNN`; `None` for buffers that are not weights.
pub fn rename(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("backbone.bottom_up.") {
        return Some(format!("backbone.body.{}", body(rest)?));
    }
    for (theirs, ours) in [
        ("backbone.fpn_lateral", "backbone.fpn.inner_blocks"),
        ("backbone.fpn_output", "backbone.fpn.layer_blocks"),
    ] {
        if let Some((level, kind)) = name.strip_prefix(theirs).and_then(|n| n.split_once('.')) {
            let level = level.parse::<usize>().ok()?.checked_sub(2)?;
            return Some(format!("{ours}.{level}.0.{kind}"));
        }
    }
    if let Some((index, kind)) = name
        .strip_prefix("roi_heads.mask_head.mask_fcn")
        .and_then(|n| n.split_once('.'))
    {
        let index = index.parse::<usize>().ok()?.checked_sub(1)?;
        return Some(format!("roi_heads.mask_head.{index}.0.{kind}"));
    }
    let (module, kind) = name.rsplit_once('.')?;
    let module = match module {
        "proposal_generator.rpn_head.conv" => "rpn.head.conv.0.0",
        "proposal_generator.rpn_head.objectness_logits" => "rpn.head.cls_logits",
        "proposal_generator.rpn_head.anchor_deltas" => "rpn.head.bbox_pred",
        "roi_heads.box_head.fc1" => "roi_heads.box_head.fc6",
        "roi_heads.box_head.fc2" => "roi_heads.box_head.fc7",
        "roi_heads.mask_head.deconv" => "roi_heads.mask_predictor.conv5_mask",
        "roi_heads.mask_head.predictor" => "roi_heads.mask_predictor.mask_fcn_logits",
        "roi_heads.box_predictor.cls_score" | "roi_heads.box_predictor.bbox_pred" => module,
        _ => return None,
    };
    Some(format!("{module}.{kind}"))
}

/// `stem.conv1.norm.weight` -> `bn1.weight`, `res3.0.shortcut.weight` ->
/// `layer2.0.downsample.0.weight`.
fn body(name: &str) -> Option<String> {
    let normed = |conv: &str, kind: &str| match kind.strip_prefix("norm.") {
        Some(kind) => format!("bn{conv}.{kind}"),
        None => format!("conv{conv}.{kind}"),
    };
    if let Some(kind) = name.strip_prefix("stem.conv1.") {
        return Some(normed("1", kind));
    }
    let mut parts = name.strip_prefix("res")?.splitn(4, '.');
    let stage = parts.next()?.parse::<usize>().ok()?.checked_sub(1)?;
    let (block, layer, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let inner = match layer.strip_prefix("conv") {
        Some(conv) => normed(conv, kind),
        None if layer == "shortcut" => match kind.strip_prefix("norm.") {
            Some(kind) => format!("downsample.1.{kind}"),
            None => format!("downsample.0.{kind}"),
        },
        None => return None,
    };
    Some(format!("layer{stage}.{block}.{inner}"))
}

/// Moves the background to the front: Detectron2 has it last among the scores, and not at all among boxes and
/// masks, where it is set to zero and never used.
pub fn background_first(tensors: &mut StateDict) {
    for (name, rows) in [
        ("roi_heads.box_predictor.cls_score", None),
        ("roi_heads.box_predictor.bbox_pred", Some(4)),
        ("roi_heads.mask_predictor.mask_fcn_logits", Some(1)),
    ] {
        for kind in ["weight", "bias"] {
            if let Some(data) = tensors.get_mut(&format!("{name}.{kind}")) {
                *data = with_background(data, rows);
            }
        }
    }
}

fn with_background(data: &TensorData, zero_rows: Option<usize>) -> TensorData {
    let mut shape: Vec<usize> = data.shape().to_vec();
    // Without rows, inferring the network returns an error.
    if shape.is_empty() {
        return data.clone();
    }
    let mut values: Vec<f32> = data.iter::<f32>().collect();
    let row = values.len() / shape[0].max(1);
    match zero_rows {
        Some(rows) => {
            shape[0] += rows;
            values.splice(0..0, vec![0.0; rows * row]);
        }
        None => values.rotate_right(row),
    }
    TensorData::new(values, shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_torchvisions() {
        for (theirs, ours) in [
            (
                "backbone.bottom_up.stem.conv1.weight",
                "backbone.body.conv1.weight",
            ),
            (
                "backbone.bottom_up.stem.conv1.norm.running_var",
                "backbone.body.bn1.running_var",
            ),
            (
                "backbone.bottom_up.res2.1.conv3.norm.bias",
                "backbone.body.layer1.1.bn3.bias",
            ),
            (
                "backbone.bottom_up.res5.0.shortcut.norm.weight",
                "backbone.body.layer4.0.downsample.1.weight",
            ),
            (
                "backbone.fpn_lateral2.bias",
                "backbone.fpn.inner_blocks.0.0.bias",
            ),
            (
                "backbone.fpn_output5.weight",
                "backbone.fpn.layer_blocks.3.0.weight",
            ),
            (
                "roi_heads.mask_head.mask_fcn1.weight",
                "roi_heads.mask_head.0.0.weight",
            ),
            (
                "roi_heads.box_head.fc1.weight",
                "roi_heads.box_head.fc6.weight",
            ),
        ] {
            assert_eq!(rename(theirs).as_deref(), Some(ours));
        }
        assert_eq!(rename("pixel_mean"), None);
    }

    #[test]
    fn the_background_comes_first() {
        let data =
            |values: &[f32], shape: &[usize]| TensorData::new(values.to_vec(), shape.to_vec());
        let scores = with_background(&data(&[1.0, 2.0, 9.0], &[3]), None);
        assert_eq!(scores, data(&[9.0, 1.0, 2.0], &[3]));
        let boxes = with_background(&data(&[1.0, 2.0], &[1, 2]), Some(2));
        assert_eq!(boxes, data(&[0.0, 0.0, 0.0, 0.0, 1.0, 2.0], &[3, 2]));
    }
}
