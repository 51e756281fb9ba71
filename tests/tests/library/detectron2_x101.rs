//! A file with the layout of Detectron2's `mask_rcnn_X_101_32x8d_FPN_3x`. Its predictions are compared by
//! `tests/oracle/compare.py --model detectron2_x101`.

use crate::convert::detectron2_names::{background_last, detectron2_name, without_background};
use crate::convert::{assert_same, named, read, written};
use burn::tensor::Device;
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{Backbone, ChannelOrder, ModelConfig};
use mrcnn_core::weights::import::Format;
use mrcnn_tests::torch_file::Named;
use mrcnn_tests::{recipe, torch_file};

/// ResNeXt-101 32x8d with an eighth of the channels: 32 groups of one channel in the first stage, which has 8 for a stem of 64.
fn narrow_x101() -> ModelConfig {
    ModelConfig {
        backbone: Backbone::Resnet101,
        width: 8,
        groups: 32,
        width_per_group: 8,
        ..recipe::narrow_config(80)
    }
}

/// Sides of the anchors of one cell, not rounded, which the file has as buffers.
fn anchor_buffers() -> Vec<Named> {
    let buffer = |(level, size): (usize, f32)| {
        let anchors = [0.5f32, 1.0, 2.0].map(|ratio| {
            let width = (size * size / ratio).sqrt();
            let height = ratio * width;
            [-width / 2.0, -height / 2.0, width / 2.0, height / 2.0]
        });
        let name = format!("proposal_generator.anchor_generator.cell_anchors.{level}");
        (name, vec![3, 4], anchors.concat())
    };
    let sizes = [32.0, 64.0, 128.0, 256.0, 512.0];
    sizes.into_iter().enumerate().map(buffer).collect()
}

#[test]
fn the_layout_of_x101_is_taken_with_its_settings() {
    let config = narrow_x101();
    let model = MaskRcnn::new(&config, 0, &Device::flex());
    let tensors = recipe::tensors(&model, 3);
    let theirs = named(&tensors, detectron2_name);
    let mut theirs: Vec<Named> = theirs.into_iter().map(background_last).collect();
    let has = |name: &str, shape: &[usize]| {
        let found = theirs.iter().find(|(theirs, ..)| theirs == name);
        assert_eq!(
            found.map(|(_, shape, _)| shape.as_slice()),
            Some(shape),
            "{name}"
        );
    };
    has("backbone.bottom_up.res2.0.conv2.weight", &[32, 1, 3, 3]);
    has("backbone.bottom_up.res4.22.conv3.norm.running_var", &[128]);
    has(
        "backbone.bottom_up.res5.0.shortcut.weight",
        &[256, 128, 1, 1],
    );
    has("roi_heads.box_predictor.cls_score.bias", &[81]);
    has("roi_heads.box_predictor.bbox_pred.bias", &[320]);
    has("roi_heads.mask_head.predictor.bias", &[80]);
    let buffers = anchor_buffers();
    let names: Vec<String> = buffers.iter().map(|(name, ..)| name.clone()).collect();
    theirs.extend(buffers);

    let folder = tempfile::tempdir().expect("a folder");
    let path = written(
        folder.path(),
        "model_final.pkl",
        &torch_file::arrays(&theirs),
    );
    let imported = read(&path);
    assert_eq!(imported.format, Format::Detectron2);
    assert_eq!(imported.ignored, names);
    assert_same(&imported.checkpoint.tensors, &without_background(tensors));
    let (found, classes) = (&imported.checkpoint.config, &imported.checkpoint.classes);
    assert_eq!((classes.len(), classes.ids[79]), (80, 90));

    let in_255 = |values: [f32; 3]| values.map(|value| (value * 255e3).round() / 1e3);
    assert_eq!(found.image.channels, ChannelOrder::Bgr);
    // Of R, G and B.
    assert_eq!(in_255(found.image.mean), [123.675, 116.28, 103.53]);
    assert_eq!(in_255(found.image.std), [58.395, 57.12, 57.375]);
    let model = &found.model;
    assert_eq!(model.backbone, Backbone::Resnet101);
    assert_eq!((model.groups, model.width_per_group), (32, 8));
    assert!(!model.stride_in_1x1 && !model.rpn.round_anchors);
    assert!(model.roi.aligned && model.roi.sampling_ratio == 0);
    assert_eq!(model.roi.box_weights, [10.0, 10.0, 5.0, 5.0]);
    assert_eq!((model.norm_eps, model.roi.score_threshold), (1e-5, 0.05));
}
