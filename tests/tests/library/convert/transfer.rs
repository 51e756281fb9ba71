//! Weights from which another training starts.

use super::{assert_same, named, read, small, written};
use burn::tensor::Device;
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{Config, ModelConfig};
use mrcnn_core::data::Classes;
use mrcnn_core::weights::import::{Format, numbered};
use mrcnn_core::weights::{Checkpoint, StateDict, load_state_dict, state_dict, transfer};
use mrcnn_tests::torch_file;
use std::path::Path;

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

/// A user's `person` keeps the outputs of the weights' `person`, whatever their labels are; a new class starts from random weights.
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
    // As many classes, but other ones: no output of the weights belongs to them.
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
