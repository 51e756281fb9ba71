//! Checkpoints of the reference system, which are TensorFlow's.

use super::{assert_same, named, read, small};
use mrcnn_core::weights::import::{Format, ImportOptions, import};
use mrcnn_tests::tensorflow_file;
use mrcnn_tests::torch_file::Named;

/// Our tensors as the reference system stores them.
fn tensorflow_variable((name, shape, values): Named) -> Named {
    let name = tensorflow_name(&name);
    let turned = |order: &[usize], shape: &[usize], values: &[f32]| -> (Vec<usize>, Vec<f32>) {
        let new: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        let mut turned = vec![0.0; values.len()];
        for (place, &value) in values.iter().enumerate() {
            let mut rest = place;
            let mut index = vec![0; shape.len()];
            for axis in (0..shape.len()).rev() {
                index[axis] = rest % shape[axis];
                rest /= shape[axis];
            }
            let at = order
                .iter()
                .zip(&new)
                .fold(0, |at, (&axis, size)| at * size + index[axis]);
            turned[at] = value;
        }
        (new, turned)
    };
    let (shape, values) = if name.contains("fc6/kernel") {
        let wide = [shape[0], shape[1] / 49, 7, 7];
        let (_, values) = turned(&[2, 3, 1, 0], &wide, &values);
        (vec![shape[1], shape[0]], values)
    } else {
        match shape.len() {
            4 => turned(&[2, 3, 1, 0], &shape, &values),
            2 => turned(&[1, 0], &shape, &values),
            _ => (shape, values),
        }
    };
    if !name.contains("rpn-box") && !name.contains("box-predict") {
        return (name, shape, values);
    }
    // dx, dy, dw, dh -> dy, dx, dh, dw; the deltas are the last axis.
    let swapped = values
        .chunks(2)
        .flat_map(|pair| [pair[1], pair[0]])
        .collect();
    (name, shape, swapped)
}

fn tensorflow_name(name: &str) -> String {
    let name = name
        .replace("running_mean", "moving_mean")
        .replace("running_var", "moving_variance");
    let (layer, kind) = name.rsplit_once('.').expect("a layer");
    let is_norm = layer.contains("bn") || layer.contains("downsample.1");
    let kind = match kind {
        "weight" if is_norm => "gamma",
        "weight" => "kernel",
        "bias" if is_norm => "beta",
        other => other,
    };
    if let Some(body) = layer.strip_prefix("backbone.body.") {
        let number = match layer_number(body) {
            0 => String::new(),
            number => format!("_{number}"),
        };
        let layer = if is_norm {
            "batch_normalization"
        } else {
            "conv2d"
        };
        return format!("resnet50/{layer}{number}/{kind}");
    }
    let mut layer = layer.to_string();
    for level in 0..4 {
        layer = layer
            .replace(
                &format!("backbone.fpn.inner_blocks.{level}.0"),
                &format!("fpn/l{}", level + 2),
            )
            .replace(
                &format!("backbone.fpn.layer_blocks.{level}.0"),
                &format!("fpn/post_hoc_d{}", level + 2),
            )
            .replace(
                &format!("roi_heads.mask_head.{level}.0"),
                &format!("mask_head/mask-conv-l{level}"),
            );
    }
    for (ours, theirs) in [
        ("rpn.head.conv.0.0", "rpn_head/rpn"),
        ("rpn.head.cls_logits", "rpn_head/rpn-class"),
        ("rpn.head.bbox_pred", "rpn_head/rpn-box"),
        ("roi_heads.box_head.", "box_head/"),
        (
            "roi_heads.box_predictor.cls_score",
            "box_head/class-predict",
        ),
        ("roi_heads.box_predictor.bbox_pred", "box_head/box-predict"),
        (
            "roi_heads.mask_predictor.conv5_mask",
            "mask_head/conv5-mask",
        ),
        (
            "roi_heads.mask_predictor.mask_fcn_logits",
            "mask_head/mask_fcn_logits",
        ),
    ] {
        layer = layer.replace(ours, theirs);
    }
    format!("{layer}/{kind}")
}

/// The index of a layer among the convolutions; projections come before the block's own.
fn layer_number(body: &str) -> usize {
    let Some(rest) = body.strip_prefix("layer") else {
        return 0;
    };
    let parts: Vec<&str> = rest.split('.').collect();
    let number = |part: &str| part.parse::<usize>().expect("a number");
    let (stage, block) = (number(parts[0]) - 1, number(parts[1]));
    let before: usize = [3, 4, 6, 3][..stage]
        .iter()
        .map(|blocks| 3 * blocks + 1)
        .sum();
    let inner = match parts[2] {
        "downsample" => return before + 1,
        layer => number(&layer[layer.len() - 1..]),
    };
    before + 1 + 3 * block + inner
}

#[test]
fn the_reference_systems_checkpoints_are_taken() {
    let (config, wanted) = small();
    let mut variables: Vec<Named> = named(&wanted, str::to_string)
        .into_iter()
        .map(tensorflow_variable)
        .collect();
    variables.push(("global_step".into(), vec![], vec![1.0]));
    variables.push((
        "resnet50/conv2d/kernel/Momentum".into(),
        vec![2],
        vec![1.0; 2],
    ));
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = folder.path().join("model.ckpt-112603");
    tensorflow_file::write(&prefix, &variables);
    for path in [
        prefix.clone(),
        folder.path().join("model.ckpt-112603.index"),
    ] {
        let imported = read(&path);
        assert_eq!(imported.format, Format::TensorFlow);
        assert_same(&imported.checkpoint.tensors, &wanted);
        let model = imported.checkpoint.config.model;
        assert_eq!(
            (model.norm_eps, model.num_classes),
            (1e-4, config.num_classes)
        );
        assert_eq!(
            (model.rpn.round_anchors, model.rpn.anchor_offset),
            (false, 0.5)
        );
        assert_eq!(imported.ignored.len(), 2);
    }
    // One byte of the values is changed.
    let data = folder.path().join("model.ckpt-112603.data-00000-of-00001");
    let mut bytes = std::fs::read(&data).expect("the numbers");
    bytes[100] ^= 1;
    std::fs::write(&data, &bytes).expect("the numbers");
    let error = import(&prefix, &ImportOptions::default()).expect_err("a checksum");
    assert!(error.to_string().contains("damaged (checksum)"), "{error}");
}
