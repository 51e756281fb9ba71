//! Our tensors as Detectron2 stores them: names, and the place of the background.

use super::old_name;
use burn::tensor::TensorData;
use mrcnn_core::weights::StateDict;
use mrcnn_tests::torch_file::Named;

/// Detectron2's name of one of our tensors.
pub(crate) fn detectron2_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("backbone.body.") {
        let rest = rest
            .replace("downsample.0", "shortcut")
            .replace("downsample.1", "shortcut.norm");
        let rest = match rest.strip_prefix("layer") {
            Some(rest) => {
                let (stage, rest) = rest.split_once('.').expect("a block");
                let stage: usize = stage.parse().expect("a stage");
                format!("res{}.{rest}", stage + 1)
            }
            None => format!("stem.{rest}"),
        };
        let rest = (1..4).fold(rest, |rest, i| {
            rest.replace(&format!("bn{i}"), &format!("conv{i}.norm"))
        });
        return format!("backbone.bottom_up.{rest}");
    }
    let mut name = old_name(name);
    for level in 0..4 {
        let theirs = level + 2;
        name = name
            .replace(
                &format!("fpn.inner_blocks.{level}"),
                &format!("fpn_lateral{theirs}"),
            )
            .replace(
                &format!("fpn.layer_blocks.{level}"),
                &format!("fpn_output{theirs}"),
            );
    }
    for (ours, theirs) in [
        ("rpn.head.conv", "proposal_generator.rpn_head.conv"),
        (
            "rpn.head.cls_logits",
            "proposal_generator.rpn_head.objectness_logits",
        ),
        (
            "rpn.head.bbox_pred",
            "proposal_generator.rpn_head.anchor_deltas",
        ),
        ("box_head.fc6", "box_head.fc1"),
        ("box_head.fc7", "box_head.fc2"),
        ("mask_predictor.conv5_mask", "mask_head.deconv"),
        ("mask_predictor.mask_fcn_logits", "mask_head.predictor"),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

/// The background is last among the scores, and absent from boxes and masks.
pub(crate) fn background_last((name, mut shape, mut values): Named) -> Named {
    let row = values.len() / shape.first().copied().unwrap_or(1).max(1);
    if name.contains("cls_score") {
        values.rotate_left(row);
    } else if name.contains("box_predictor.bbox_pred") {
        shape[0] -= 4;
        values.drain(..4 * row);
    } else if name.contains("mask_head.predictor") {
        shape[0] -= 1;
        values.drain(..row);
    }
    (name, shape, values)
}

/// Rows of the background's boxes and masks, which Detectron2 does not have, are zero.
pub(crate) fn without_background(mut tensors: StateDict) -> StateDict {
    for (name, rows) in [
        ("roi_heads.box_predictor.bbox_pred", 4),
        ("roi_heads.mask_predictor.mask_fcn_logits", 1),
    ] {
        for kind in ["weight", "bias"] {
            let data = tensors
                .get_mut(&format!("{name}.{kind}"))
                .expect("a predictor");
            let shape = data.shape().to_vec();
            let mut values: Vec<f32> = data.iter::<f32>().collect();
            let row = values.len() / shape[0];
            values[..rows * row].fill(0.0);
            *data = TensorData::new(values, shape);
        }
    }
    tensors
}
