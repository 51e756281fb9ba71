//! Weights of Detectron2: its models, and the backbones from which it starts.

use super::detectron2_names::{background_last, detectron2_name, without_background};
use super::{assert_same, named, read, small, written};
use burn::tensor::{Device, TensorData};
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{ChannelOrder, ModelConfig};
use mrcnn_core::weights::import::{Detectron2Config, Format, ImportOptions, import};
use mrcnn_tests::torch_file::Named;
use mrcnn_tests::{recipe, torch_file};

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

    // A model that is not in the model zoo: its configuration has the settings that names and shapes do not show.
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
