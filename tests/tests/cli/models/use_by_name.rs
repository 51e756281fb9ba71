//! `--weights NAME` in every command that reads weights.

use super::{DETECTOR, Models, backbone, detector};
use crate::{SMALL, render_shapes, shown};
use mrcnn_core::weights::import::coco_91;
use serde_json::Value;

/// The table and the detections of `predict`, with the arguments for the weights.
fn predicted(models: &Models, out: &str, more: &[&str]) -> (String, Vec<Value>) {
    let out_arg = format!("--out={out}");
    let args = [
        "predict",
        "shapes/val/000000.png",
        "--backend=cpu",
        "--score=0",
        &out_arg,
    ];
    let table = models.ok(&[&args[..], more].concat());
    let text = std::fs::read_to_string(models.at().join(out).join("detections.json"));
    (
        table,
        serde_json::from_str(&text.expect("results")).expect("JSON"),
    )
}

#[test]
fn a_detector_predicts_with_the_settings_and_classes_of_its_name() {
    let models = Models::new(DETECTOR, detector());
    render_shapes(models.at(), 4, 2);
    let (table, by_name) = predicted(&models, "name", &["--weights=tiny_coco"]);
    assert!(!by_name.is_empty());
    let names = coco_91().names;
    // The table shows the first few.
    for record in by_name.iter().take(5) {
        let id = record["category_id"].as_u64().expect("an id") as usize;
        assert!(table.contains(&names[id - 1]), "{record}: {table}");
    }
    // The file alone has other settings; with those of the list it gives the same.
    let file = "--weights=cache/models/tiny_coco.pth";
    let sized = [
        "--set=image.min_size=96",
        "--set=model.rpn.post_nms_test=50",
    ];
    let (_, by_path) = predicted(&models, "path", &[file, sized[0], sized[1]]);
    assert!(
        by_path != by_name,
        "norm_eps is 1e-5 by the file and 0 by the name"
    );
    let settings = [file, sized[0], sized[1], "--set=model.norm_eps=0"];
    assert_eq!(predicted(&models, "equal", &settings).1, by_name);
    // A file of that name comes first.
    std::fs::write(models.at().join("tiny_coco"), "not weights").expect("a file");
    let text = models.error(&[
        "predict",
        "shapes/val",
        "--backend=cpu",
        "--weights=tiny_coco",
    ]);
    assert!(text.contains("not a readable"), "{text}");
    assert_eq!(models.server.requests().len(), 1);
}

#[test]
fn every_command_takes_a_name() {
    let models = Models::new(DETECTOR, detector());
    render_shapes(models.at(), 4, 2);
    let text = models.error(&[
        "eval",
        "--backend=cpu",
        "--data=shapes",
        "--weights=tiny_coco",
    ]);
    assert!(text.contains("not all of its categories"), "{text}");
    let args = [
        "benchmark",
        "inference",
        "--backend=cpu",
        "--weights=tiny_coco",
        "--warmup=0",
        "--steps=1",
    ];
    assert!(models.ok(&args).contains("images/s"));

    let text = models.ok(&["convert", "tiny_coco", "--dtype=f16"]);
    assert!(
        text.contains("tiny_coco.mrcnn.safetensors") && text.contains("91 classes"),
        "{text}"
    );
    let settings =
        std::fs::read_to_string(models.at().join("tiny_coco.mrcnn.toml")).expect("settings");
    assert!(
        settings.contains("norm_eps = 0.0") && settings.contains("min_size = 96"),
        "{settings}"
    );

    let train = [
        "train",
        "--data=shapes",
        "--backend=cpu",
        "--weights=tiny_coco",
        "--out=run",
    ];
    let short = [
        "--set=train.steps=1",
        "--set=train.batch_size=1",
        "--set=train.val_images=0",
    ];
    let output = models.run(&[&train[..], &short].concat());
    assert!(output.status.success(), "{}", shown(&output));
    assert!(
        shown(&output).contains("settings for 4 images (--recipe auto)"),
        "{}",
        shown(&output)
    );
    // The class predictors only: they have another number of classes.
    assert!(
        shown(&output).contains("6 tensors keep their random initial values"),
        "{}",
        shown(&output)
    );
    let settings = std::fs::read_to_string(models.at().join("run/args.toml")).expect("settings");
    assert!(
        settings.contains("weights = \"tiny_coco\"") && settings.contains("norm_eps = 0.0"),
        "{settings}"
    );
    assert_eq!(models.server.requests().len(), 1);
}

#[test]
fn a_recipe_starts_from_the_backbone_that_it_names() {
    let entry = r#"
[[model]]
name = "tiny_resnet"
kind = "backbone"
url = "URL/w/tiny_resnet.pth"
sha256 = "HASH"
"#;
    let models = Models::new(entry, backbone());
    render_shapes(models.at(), 4, 2);
    let train_with = |config: &str, more: &[&str]| {
        let mut args = vec![
            "train",
            "--config",
            config,
            "--data=shapes",
            "--backend=cpu",
            "--set=train.steps=1",
        ];
        let network = [
            "--set=model.backbone=resnet50",
            "--set=model.norm=frozen_bn",
        ];
        args.extend(
            SMALL
                .iter()
                .filter(|arg| !arg.contains("steps") && !arg.contains("width")),
        );
        args.extend(network);
        args.extend(["--set=model.width=4"]);
        args.extend(more);
        models.run(&args)
    };
    let train = |more: &[&str]| train_with("quickstart", more);
    let named = "--set=train.weights=tiny_resnet";
    let output = train(&[named, "--out=named"]);
    assert!(output.status.success(), "{}", shown(&output));
    assert!(
        shown(&output).contains("initial weights: tiny_resnet (cache/models/tiny_resnet.pth)"),
        "{}",
        shown(&output)
    );
    assert!(
        shown(&output).contains("tensors keep their random initial values"),
        "{}",
        shown(&output)
    );
    assert_eq!(models.server.requests().len(), 1);
    // --weights replaces the weights that a configuration names.
    let preset = include_str!("../../../../core/configs/quickstart.toml");
    let preset = preset.replace("[train]", "[train]\nweights = \"tiny_resnet\"");
    std::fs::write(models.at().join("named.toml"), preset).expect("a file");
    let output = train_with("named.toml", &["--weights=none", "--out=random"]);
    assert!(
        output.status.success() && !shown(&output).contains("initial weights"),
        "{}",
        shown(&output)
    );
    let first_loss = |run: &str| {
        let text =
            std::fs::read_to_string(models.at().join(run).join("metrics.jsonl")).expect("a log");
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        records
            .into_iter()
            .find(|record| record["kind"] == "step")
            .expect("a step")["loss"]
            .to_string()
    };
    assert_ne!(first_loss("named"), first_loss("random"));

    // The recipes for COCO name a backbone of the list; `none` starts from random weights.
    let recipe = [
        "train",
        "--config=r50_fpn_1x_coco",
        "--data=shapes",
        "--backend=cpu",
    ];
    let mut offline = models.command(&recipe);
    let text = super::error_of(&offline.arg("--offline").output().expect("the program"));
    assert!(
        text.contains("download https://download.pytorch.org/models/resnet50-0676ba61.pth"),
        "{text}"
    );
    assert!(
        !models.at().join("runs").exists(),
        "no run folder for a run that cannot start"
    );
}

#[test]
fn what_cannot_work_is_refused_before_a_download() {
    let models = Models::new(DETECTOR, Vec::new());
    render_shapes(models.at(), 1, 1);
    for (args, part) in [
        (
            ["predict", "shapes/val", "--weights=resnet50"],
            "resnet50 is a backbone",
        ),
        (
            ["predict", "shapes/val", "--weights=wide_resnet50_2"],
            "wide_resnet50_2 is a backbone",
        ),
        (
            ["eval", "--data=shapes", "--weights=mask_rcnn_R_50"],
            "nearest names are mask_rcnn_R_50_FPN_1x, ",
        ),
        (
            ["train", "--data=nowhere", "--weights=tiny_coco"],
            "nowhere: no such dataset",
        ),
        (
            ["eval", "--data=nowhere", "--weights=tiny_coco"],
            "nowhere: no such dataset",
        ),
        (
            ["train", "--epochs=1", "--weights=tiny_coco"],
            "no dataset: give --data",
        ),
    ] {
        let mut command = models.command(&args);
        command
            .arg("--backend=cpu")
            .env("MRCNN_MODEL_BASE_URL", models.server.url());
        let text = super::error_of(&command.output().expect("the program"));
        assert!(text.contains(part), "{text}");
    }
    assert!(models.server.requests().is_empty());
}
