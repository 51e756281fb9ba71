//! Import and export of other systems' weights, with files in the formats of those systems.

use burn::tensor::{Device, TensorData};
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{Backbone, ChannelOrder, Config, ModelConfig, NormKind};
use mrcnn_core::data::Classes;
use mrcnn_core::weights::import::{
    Detectron2Config, Format, ImportOptions, Imported, export_torchvision, import, numbered,
};
use mrcnn_core::weights::{Checkpoint, StateDict, StoredAs, load_state_dict, state_dict, transfer};
use mrcnn_tests::torch_file::{self, Named};
use mrcnn_tests::{recipe, tensorflow_file};
use safetensors::tensor::{Dtype, SafeTensors};
use std::path::Path;

/// A narrow ResNet-50-FPN with 5 classes, and its recipe weights.
fn small() -> (ModelConfig, StateDict) {
    let config = recipe::narrow_config(5);
    let model = MaskRcnn::new(&config, 0, &Device::flex());
    (config, recipe::tensors(&model, 3))
}

pub(crate) fn named(tensors: &StateDict, rename: impl Fn(&str) -> String) -> Vec<Named> {
    let tensors = tensors.iter();
    tensors
        .map(|(name, data)| {
            (
                rename(name),
                data.shape().to_vec(),
                data.iter::<f32>().collect(),
            )
        })
        .collect()
}

/// torchvision's names of before 0.13.
fn old_name(name: &str) -> String {
    let mut name = name.replace("rpn.head.conv.0.0", "rpn.head.conv");
    for level in 0..4 {
        for blocks in ["inner_blocks", "layer_blocks"] {
            name = name.replace(
                &format!("{blocks}.{level}.0."),
                &format!("{blocks}.{level}."),
            );
        }
        let (ours, theirs) = (
            format!("mask_head.{level}.0."),
            format!("mask_head.mask_fcn{}.", level + 1),
        );
        name = name.replace(&ours, &theirs);
    }
    name
}

pub(crate) fn written(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

#[track_caller]
pub(crate) fn read(path: &Path) -> Imported {
    import(path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
pub(crate) fn assert_same(found: &StateDict, wanted: &StateDict) {
    let names = |dict: &StateDict| dict.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted));
    for (name, data) in found {
        assert_eq!(data, &wanted[name], "{name}");
    }
}

/// At full size and in both formats of torch: 178 MB, bit by bit.
#[test]
fn torchvisions_weights_go_through_bit_equal() {
    let config = recipe::r50_config(0.0);
    let model = MaskRcnn::new(&config, 0, &Device::flex());
    let wanted = recipe::tensors(&model, 5);
    let mut tensors = named(&wanted, old_name);
    // The batch counter of a BatchNorm2d is not a weight.
    tensors.push((
        "backbone.body.bn1.num_batches_tracked".into(),
        vec![],
        vec![3.0],
    ));
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [
        ("zipped.pth", torch_file::zipped(&tensors)),
        ("legacy.pth", torch_file::legacy(&tensors)),
    ] {
        let path = written(folder.path(), name, &bytes);
        drop(bytes);
        let mut imported = read(&path);
        assert_eq!(imported.format, Format::Torchvision);
        let counted = imported
            .checkpoint
            .tensors
            .remove("backbone.body.bn1.num_batches_tracked");
        assert!(counted.is_some());
        assert_eq!(
            imported.checkpoint.config.model, config,
            "eps 0: published COCO weights"
        );
        assert_eq!(imported.checkpoint.classes.name(90), "toothbrush");
        assert_same(&imported.checkpoint.tensors, &wanted);

        let out = folder.path().join("out.safetensors");
        let told = export_torchvision(&out, &imported.checkpoint, StoredAs::F32);
        assert_eq!(told.expect("a file"), ["batch norm's eps = 0"]);
        let bytes = std::fs::read(&out).expect("a file");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(file.len(), wanted.len());
        for (name, data) in &wanted {
            let view = file.tensor(name).expect("a tensor of torchvision's name");
            assert_eq!(
                (view.shape(), view.dtype()),
                (&data.shape()[..], Dtype::F32)
            );
            assert_eq!(view.data(), data.as_bytes(), "{name}");
        }
    }
}

/// Networks that torchvision's builders make with other arguments: v2, and backbones with groups or wide bottlenecks.
fn variants() -> [(ModelConfig, &'static str); 4] {
    let (plain, _) = small();
    let mut v2 = ModelConfig {
        head_norm: NormKind::FrozenBn,
        ..plain.clone()
    };
    (v2.rpn.convs, v2.box_head.convs) = (2, 4);
    let resnext = ModelConfig {
        backbone: Backbone::Resnet101,
        width: 16,
        groups: 32,
        width_per_group: 8,
        ..plain.clone()
    };
    let wide = ModelConfig {
        width_per_group: 128,
        ..plain.clone()
    };
    let both = ModelConfig {
        width: 16,
        groups: 4,
        width_per_group: 4,
        ..v2.clone()
    };
    [
        (v2, "maskrcnn_resnet50_fpn_v2"),
        (resnext, "groups=32 and width_per_group=8"),
        (wide, "groups=1 and width_per_group=128"),
        (both, "conv_depth=2, 4 convolutions in the box head"),
    ]
}

#[test]
fn architectures_are_told_by_names_and_shapes() {
    let folder = tempfile::tempdir().expect("a folder");
    for (config, wanted_note) in variants() {
        let model = MaskRcnn::new(&config, 0, &Device::flex());
        let wanted = recipe::tensors(&model, 3);
        let mut tensors = named(&wanted, str::to_string);
        let counter = "backbone.body.bn1.num_batches_tracked";
        tensors.push((counter.into(), vec![], vec![3.0]));
        let bytes = torch_file::zipped(&tensors);
        let mut imported = read(&written(folder.path(), "variant.pth", &bytes));
        assert_eq!(imported.checkpoint.config.model, config);

        let out = folder.path().join("out.safetensors");
        imported.checkpoint.tensors.remove(counter);
        let notes = export_torchvision(&out, &imported.checkpoint, StoredAs::F32).expect("a file");
        assert!(
            notes.iter().any(|note| note.contains(wanted_note)),
            "{notes:?}"
        );
        let mut again = read(&out);
        assert_eq!(again.format, Format::Torchvision);
        assert_same(&again.checkpoint.tensors, &wanted);

        // Our own file, and the model that is made from it.
        imported
            .checkpoint
            .save(&out, StoredAs::F32)
            .expect("a file");
        again = read(&out);
        assert_eq!(again.checkpoint.config, imported.checkpoint.config);
        let fresh = MaskRcnn::new(&again.checkpoint.config.model, 1, &Device::flex());
        let loaded = load_state_dict(fresh, again.checkpoint.tensors, &out).expect("all names");
        assert_same(&mrcnn_core::weights::state_dict(&loaded), &wanted);
    }
}

#[test]
fn our_files_hold_all_that_prediction_needs() {
    let (config, wanted) = small();
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(
        folder.path(),
        "small.pth",
        &torch_file::zipped(&named(&wanted, str::to_string)),
    );
    let imported = read(&path);
    assert_eq!(imported.checkpoint.config.model, config);
    for (name, stored_as) in [("f32", StoredAs::F32), ("f16", StoredAs::F16)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        imported.checkpoint.save(&path, stored_as).expect("a file");
        let again = read(&path);
        assert_eq!(again.format, Format::Own);
        assert_eq!(again.checkpoint.config, imported.checkpoint.config);
        assert_eq!(again.checkpoint.classes, imported.checkpoint.classes);
        for (name, data) in &again.checkpoint.tensors {
            let pairs = data.iter::<f32>().zip(wanted[name].iter::<f32>());
            for (found, wanted) in pairs {
                // Half an ulp of 11 bits, and the smallest f16.
                let allowed = match stored_as {
                    StoredAs::F32 => 0.0,
                    StoredAs::F16 | StoredAs::F16Clamped => wanted.abs() / 2048.0 + 6e-8,
                };
                assert!(
                    (found - wanted).abs() <= allowed,
                    "{name}: {found}, {wanted}"
                );
            }
        }
    }
    let halves = |name: &str| {
        std::fs::metadata(folder.path().join(name))
            .expect("a file")
            .len()
    };
    assert!(halves("f16.safetensors") < halves("f32.safetensors") * 6 / 10);
}

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

#[test]
fn detectron2s_weights_and_settings_are_taken() {
    let (config, tensors) = small();
    let wanted = without_background(tensors.clone());
    let theirs: Vec<Named> = named(&tensors, detectron2_name)
        .into_iter()
        .map(background_last)
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let pickled = written(folder.path(), "d2.pkl", &torch_file::arrays(&theirs));
    let mut with_pixels = theirs.clone();
    with_pixels.extend([
        (
            "pixel_mean".into(),
            vec![3, 1, 1],
            vec![123.675, 116.28, 103.53],
        ),
        (
            "pixel_std".into(),
            vec![3, 1, 1],
            vec![58.395, 57.12, 57.375],
        ),
    ]);
    let saved = written(folder.path(), "d2.pth", &torch_file::zipped(&with_pixels));
    for (path, channels, in_1x1, std) in [
        (pickled, ChannelOrder::Bgr, true, 1.0),
        (saved, ChannelOrder::Rgb, false, 58.395),
    ] {
        let imported = read(&path);
        assert_eq!(imported.format, Format::Detectron2);
        let found = imported.checkpoint.config;
        assert_eq!(found.image.channels, channels);
        assert!(
            (found.image.mean[0] * 255.0 - 123.675).abs() < 1e-4,
            "red comes first"
        );
        assert!((found.image.std[0] * 255.0 - std).abs() < 1e-4);
        let model = &found.model;
        assert_eq!(model.stride_in_1x1, in_1x1);
        assert!(model.roi.aligned && !model.rpn.round_anchors && model.roi.sampling_ratio == 0);
        assert_eq!(
            (model.width, model.num_classes),
            (config.width, config.num_classes)
        );
        assert_same(&imported.checkpoint.tensors, &wanted);
    }

    // A model that is not in the model zoo: its configuration says what the names and shapes do not.
    let yaml = folder.path().join("config.yaml");
    let text = "MODEL:\n  PIXEL_STD: [57.375, 57.12, 58.395]\n  RESNETS: {STRIDE_IN_1X1: false}\n  ROI_BOX_HEAD: \
                {POOLER_TYPE: ROIAlign, POOLER_SAMPLING_RATIO: 2}\n  ROI_MASK_HEAD: {POOLER_TYPE: ROIAlign, \
                POOLER_SAMPLING_RATIO: 2}\nTEST: {DETECTIONS_PER_IMAGE: 7}\n";
    std::fs::write(&yaml, text).expect("a configuration");
    let options = || ImportOptions {
        detectron2: Some(Detectron2Config::read(&yaml).expect("a configuration")),
        ..ImportOptions::default()
    };
    let path = folder.path().join("d2.pkl");
    let found = import(&path, &options()).expect("weights").checkpoint;
    let model = &found.config.model;
    assert!(!model.stride_in_1x1 && !model.roi.aligned && !model.rpn.round_anchors);
    assert_eq!((model.roi.sampling_ratio, model.roi.max_detections), (2, 7));
    assert!((found.config.image.std[0] * 255.0 - 58.395).abs() < 1e-4);
    assert_same(&found.tensors, &wanted);
    let others = named(&tensors, str::to_string);
    let others = written(folder.path(), "tv.pth", &torch_file::zipped(&others));
    let refused = import(&others, &options()).expect_err("torchvision's weights");
    assert!(
        refused.to_string().contains("weights of another system"),
        "{refused}"
    );
}

/// The backbones from which Detectron2 starts: batch norm without statistics, blue first.
#[test]
fn caffe2s_backbones_are_taken() {
    let (resnet, _) = small();
    let resnext = ModelConfig {
        width: 16,
        groups: 4,
        width_per_group: 16,
        ..resnet.clone()
    };
    for (config, in_1x1, std) in [(resnet, true, 1.0), (resnext, false, 58.395)] {
        let model = MaskRcnn::new(&config, 0, &Device::flex());
        let mut body = recipe::tensors(&model, 3);
        body.retain(|name, _| name.starts_with("backbone.body."));
        for (name, data) in &mut body {
            let statistic = match name.rsplit('.').next() {
                Some("running_mean") => 0.0f32,
                Some("running_var") => 1.0,
                _ => continue,
            };
            let shape = data.shape().to_vec();
            *data = TensorData::new(vec![statistic; data.num_elements()], shape);
        }
        let mut stored = body.clone();
        stored.retain(|name, _| !name.contains("running_"));
        let mut theirs = named(&stored, caffe2_name);
        theirs.push(("fc1000_w".into(), vec![1, 1], vec![1.0]));
        theirs.push(("conv1_w_momentum".into(), vec![1], vec![1.0]));
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = torch_file::arrays_in("blobs", &theirs);
        let imported = read(&written(folder.path(), "R-50.pkl", &bytes));
        assert_eq!(imported.format, Format::Backbone);
        assert_same(&imported.checkpoint.tensors, &body);
        assert_eq!(imported.ignored, ["conv1_w_momentum", "fc1000_w"]);
        let found = imported.checkpoint.config;
        assert_eq!(found.image.channels, ChannelOrder::Bgr);
        assert!((found.image.std[0] * 255.0 - std).abs() < 1e-4);
        assert_eq!(found.model.stride_in_1x1, in_1x1);
        assert_eq!(found.model.groups, config.groups);
    }
}

/// `backbone.body.layer1.0.bn2.bias` -> `res2_0_branch2b_bn_b`.
fn caffe2_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').skip(2).collect();
    let norm = |kind: &str| if kind == "weight" { "bn_s" } else { "bn_b" };
    match parts[..] {
        ["conv1", _] => "conv1_w".into(),
        ["bn1", kind] => format!("res_conv1_{}", norm(kind)),
        [stage, block, "downsample", "0", _] => {
            format!("res{}_{block}_branch1_w", stage_of(stage))
        }
        [stage, block, "downsample", _, kind] => {
            format!("res{}_{block}_branch1_{}", stage_of(stage), norm(kind))
        }
        [stage, block, layer, kind] => {
            let (layer, number) = layer.split_at(layer.len() - 1);
            let letter = ["a", "b", "c"][number.parse::<usize>().expect("a number") - 1];
            let kind = if layer == "conv" { "w" } else { norm(kind) };
            format!("res{}_{block}_branch2{letter}_{kind}", stage_of(stage))
        }
        _ => panic!("{name}"),
    }
}

/// `layer1` -> 2.
fn stage_of(layer: &str) -> usize {
    1 + layer
        .trim_start_matches("layer")
        .parse::<usize>()
        .expect("a stage")
}

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

#[test]
fn a_classification_resnet_becomes_a_backbone() {
    let (config, tensors) = small();
    let body: StateDict = tensors
        .iter()
        .filter(|(name, _)| name.starts_with("backbone.body."))
        .map(|(name, data)| (name.clone(), data.clone()))
        .collect();
    let mut theirs = named(&body, |name| name.replace("backbone.body.", ""));
    theirs.push(("fc.weight".into(), vec![2, 3], vec![1.0; 6]));
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path(), "resnet50.pth", &torch_file::legacy(&theirs));
    let imported = read(&path);
    assert_eq!(imported.format, Format::Backbone);
    assert_same(&imported.checkpoint.tensors, &body);

    let fresh = MaskRcnn::new(&config, 7, &Device::flex());
    let before = state_dict(&fresh);
    let transfer = transfer(fresh, imported.checkpoint, None, &path).expect("a backbone");
    let after = state_dict(&transfer.model);
    for (name, data) in &after {
        let wanted = body.get(name).unwrap_or(&before[name]);
        assert_eq!(data, wanted, "{name}");
        assert_eq!(transfer.fresh.contains(name), !body.contains_key(name));
    }
}

#[test]
fn other_classes_start_anew_and_other_names_are_listed() {
    let (config, tensors) = small();
    let path = Path::new("weights.pth");
    let mut fewer = config.clone();
    fewer.num_classes = 3;
    let fresh = || MaskRcnn::new(&fewer, 7, &Device::flex());
    let start = checkpoint(&config, tensors.clone(), &[]);
    let moved = transfer(fresh(), start, None, path).expect("weights of other classes");
    assert_eq!(moved.fresh.len(), 6, "{:?}", moved.fresh);
    let error = load_state_dict(fresh(), tensors.clone(), path).expect_err("other classes");
    assert!(error.to_string().contains("the model has"), "{error}");

    let mut misnamed = tensors;
    let data = misnamed
        .remove("rpn.head.cls_logits.bias")
        .expect("a tensor");
    misnamed.insert("rpn.head.cls_logit.bias".into(), data);
    let error = load_state_dict(MaskRcnn::new(&config, 7, &Device::flex()), misnamed, path);
    let message = error.expect_err("a wrong name").to_string();
    let hint = "rpn.head.cls_logits.bias is missing (the closest is rpn.head.cls_logit.bias)";
    assert!(
        message.contains("weights.pth") && message.contains(hint),
        "{message}"
    );
}

/// A user's `person` keeps the outputs of the weights' `person`, whatever their labels are; a new class starts anew.
#[test]
fn outputs_of_classes_with_the_same_name_are_kept() {
    let (config, tensors) = small();
    let names = ["person", "car", "dog", "cup", "cat"];
    let start = || checkpoint(&config, tensors.clone(), &names);
    let path = Path::new("weights.pth");
    let model_of = |count: usize| {
        let mut config = config.clone();
        config.num_classes = count + 1;
        MaskRcnn::new(&config, 7, &Device::flex())
    };
    let moved = |names: &[&str]| {
        let classes = Some(classes(names));
        transfer(model_of(names.len()), start(), classes.as_ref(), path).expect("weights")
    };

    let found = moved(&["cup", "nut", "person"]);
    assert_eq!(found.kept_classes, ["cup", "person"]);
    assert_eq!(found.fresh_classes, ["nut"]);
    assert!(found.fresh.is_empty(), "{:?}", found.fresh);
    let (after, initial) = (state_dict(&found.model), state_dict(&model_of(3)));
    // The source of each of the model's outputs: a label of the weights, or the model's own.
    let sources = [Some(0), Some(4), None, Some(1)];
    for name in [
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_predictor.cls_score.bias",
        "roi_heads.box_predictor.bbox_pred.weight",
        "roi_heads.box_predictor.bbox_pred.bias",
        "roi_heads.mask_predictor.mask_fcn_logits.weight",
        "roi_heads.mask_predictor.mask_fcn_logits.bias",
    ] {
        let values = |of: &StateDict| of[name].iter::<f32>().collect::<Vec<f32>>();
        let (after, initial, theirs) = (values(&after), values(&initial), values(&tensors));
        let length = after.len() / sources.len();
        assert_eq!(theirs.len(), 6 * length, "{name}");
        for (label, source) in sources.into_iter().enumerate() {
            let wanted = match source {
                Some(source) => &theirs[source * length..][..length],
                None => &initial[label * length..][..length],
            };
            assert_eq!(&after[label * length..][..length], wanted, "{name} {label}");
        }
    }

    // The same classes in the same order: every tensor is that of the weights.
    let same = moved(&names);
    assert!(same.fresh_classes.is_empty() && same.fresh.is_empty());
    assert_eq!(state_dict(&same.model), tensors);
    // As many classes, but other ones: no output has a meaning for them.
    let other = moved(&["nut", "bolt", "screw", "washer", "pin"]);
    assert_eq!((other.fresh_classes.len(), other.fresh.len()), (5, 6));
    // Weights without names: their outputs are kept if there are as many.
    let mut unnamed = checkpoint(&config, tensors.clone(), &[]);
    unnamed.classes = numbered(5);
    let classes = classes(&["nut", "bolt", "screw", "washer", "pin"]);
    let kept = transfer(model_of(5), unnamed, Some(&classes), path).expect("weights");
    assert!(kept.fresh.is_empty() && kept.fresh_classes.is_empty());
    assert_eq!(state_dict(&kept.model), tensors);
}

fn classes(names: &[&str]) -> Classes {
    Classes {
        names: names.iter().map(|name| name.to_string()).collect(),
        ids: (1..).take(names.len()).collect(),
    }
}

fn checkpoint(model: &ModelConfig, tensors: StateDict, names: &[&str]) -> Checkpoint {
    Checkpoint {
        config: Config {
            model: model.clone(),
            ..Config::default()
        },
        classes: classes(names),
        training: None,
        tensors,
    }
}

/// Every tensor, whatever wrappers and modules around the model put before its name.
#[test]
fn prefixes_of_wrappers_are_removed() {
    let (_, wanted) = small();
    let of_detectron2 = without_background(wanted.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let prefixes = [
        "",
        "module.",
        "model.",
        "model.module.",
        "_orig_mod.",
        "model._orig_mod.",
        "_fsdp_wrapped_module.",
        "net.",
        "lightning.model.detector.",
    ];
    for (index, prefix) in prefixes.iter().enumerate() {
        let mut theirs = named(&wanted, |name| format!("{prefix}{}", old_name(name)));
        // What lies beside the model in a Lightning module.
        theirs.push(("criterion.weight".into(), vec![2], vec![1.0, 2.0]));
        let bytes = torch_file::zipped(&theirs);
        let imported = read(&written(folder.path(), &format!("{index}.ckpt"), &bytes));
        assert_eq!(imported.format, Format::Torchvision, "{prefix}");
        let beside = "criterion.weight";
        let mut found = imported.checkpoint.tensors;
        match imported.ignored.iter().any(|name| name == beside) {
            true => assert!(
                imported
                    .notes
                    .iter()
                    .any(|note| note.contains("which is removed")),
                "{prefix}"
            ),
            // Without a prefix it is reported when the model is loaded.
            false => assert!(found.remove(beside).is_some(), "{prefix}"),
        }
        assert_same(&found, &wanted);

        let theirs = named(&wanted, detectron2_name)
            .into_iter()
            .map(background_last);
        let theirs: Vec<Named> = theirs
            .map(|(name, shape, values)| (format!("{prefix}{name}"), shape, values))
            .collect();
        let bytes = torch_file::zipped(&theirs);
        let imported = read(&written(folder.path(), &format!("{index}.pth"), &bytes));
        assert_eq!(imported.format, Format::Detectron2, "{prefix}");
        assert_same(&imported.checkpoint.tensors, &of_detectron2);
    }
}

/// A submodule that was compiled or wrapped alone, an encoder in a self-supervised model, several models in a file.
#[test]
fn wrapped_parts_and_several_models_are_told_apart() {
    let (_, wanted) = small();
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        |name: &str, tensors: &[Named]| written(folder.path(), name, &torch_file::zipped(tensors));
    let inner = named(&wanted, |name| {
        name.replace("backbone.body.", "backbone._orig_mod.body.")
            .replace("roi_heads.", "roi_heads.module.")
    });
    assert_same(
        &read(&file("inner.pth", &inner)).checkpoint.tensors,
        &wanted,
    );

    let body: StateDict = wanted
        .iter()
        .filter(|(name, _)| name.starts_with("backbone.body."))
        .map(|(name, data)| (name.clone(), data.clone()))
        .collect();
    let mut encoder = named(&body, |name| {
        name.replace("backbone.body.", "module.encoder_q.")
    });
    encoder.push(("module.encoder_q.fc.bias".into(), vec![1], vec![1.0]));
    encoder.push(("module.queue".into(), vec![1], vec![1.0]));
    let imported = read(&file("encoder.pth", &encoder));
    assert_eq!(imported.format, Format::Backbone);
    assert_same(&imported.checkpoint.tensors, &body);

    let mut both = named(&wanted, |name| format!("model.{name}"));
    both.extend(named(&without_background(wanted.clone()), |name| {
        format!("ema_model.module.{name}")
    }));
    let path = file("both.pth", &both);
    let refused = import(&path, &ImportOptions::default())
        .expect_err("two models")
        .to_string();
    assert!(
        refused.contains("`ema_model.`, `model.`") && refused.contains("--prefix"),
        "{refused}"
    );
    let options = ImportOptions {
        prefix: Some("model".into()),
        ..ImportOptions::default()
    };
    let imported = import(&path, &options).unwrap_or_else(|error| panic!("{error}"));
    assert_same(&imported.checkpoint.tensors, &wanted);
}

/// Names that are of no model that is read: the error has the prefix that all of them share.
#[test]
fn the_prefix_of_unknown_names_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let tensors = ["a", "b"].map(|name| (format!("my.net.{name}.weight"), vec![1], vec![1.0]));
    let path = written(folder.path(), "unknown.pth", &torch_file::zipped(&tensors));
    let refused = import(&path, &ImportOptions::default())
        .expect_err("unknown names")
        .to_string();
    assert!(
        refused.contains("all of them begin with `my.net.`"),
        "{refused}"
    );
}
