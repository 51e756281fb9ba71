//! Conversion of weights, and results as JSON, with the binary.

use crate::{cli_error, cli_ok, render_shapes, train_args};
use serde_json::Value;

#[test]
fn exported_weights_can_be_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    let mut train = train_args();
    train.extend([
        "--out=run",
        "--set=model.norm=frozen_bn",
        "--set=model.head_norm=none",
    ]);
    cli_ok(at, &train);

    let best = "run/best.safetensors";
    let output = cli_ok(
        at,
        &["convert", best, "--to=torchvision", "--out=tv.safetensors"],
    );
    assert!(
        output.contains("set in torchvision: num_classes=5"),
        "{output}"
    );
    let output = cli_ok(
        at,
        &[
            "convert",
            "tv.safetensors",
            "--dtype=f16",
            "--out=back.safetensors",
        ],
    );
    assert!(output.contains("torchvision detection"), "{output}");
    let size = |name: &str| at.join(name).metadata().expect("a file").len();
    assert!(size("back.safetensors") < size("tv.safetensors") * 6 / 10);
    let settings = std::fs::read_to_string(at.join("back.toml")).expect("settings");
    assert!(settings.contains("num_classes = 5"), "{settings}");

    let error = cli_error(at, &["convert", best, "--out=back.safetensors"]);
    assert!(error.contains("back.safetensors: it exists"), "{error}");
    std::fs::write(at.join("names.txt"), "circle\nsquare\n").expect("names");
    let three = [
        "convert",
        "tv.safetensors",
        "--classes=names.txt",
        "--out=named.safetensors",
    ];
    let error = cli_error(at, &three);
    assert!(
        error.contains("4 classes") && error.contains("2 names"),
        "{error}"
    );

    // As weights of a training run with another number of classes.
    let mut train = train_args();
    train.extend([
        "--out=tuned",
        "--weights=tv.safetensors",
        "--set=model.norm=frozen_bn",
    ]);
    train.push("--set=model.head_norm=none");
    cli_ok(at, &train);
}

#[test]
fn predictions_are_printed_as_json_and_evaluated_as_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    let mut train = train_args();
    train.push("--out=run");
    cli_ok(at, &train);
    let weights = "--weights=run/best.safetensors";
    let predict = [
        "predict",
        "shapes/val",
        "--backend=cpu",
        "--score=0",
        "--format=json",
        weights,
    ];
    let printed = cli_ok(at, &predict);
    let written = std::fs::read_to_string(at.join("runs/predict/detections.json"));
    assert_eq!(printed.trim_end(), written.expect("detections.json"));
    serde_json::from_str::<Vec<Value>>(&printed).expect("nothing but JSON on standard output");

    let eval = ["eval", weights, "--backend=cpu", "--json=found.json"];
    let by_weights = cli_ok(at, &eval);
    let results = ["eval", "--results=found.json", "--data=shapes"];
    let by_file = cli_ok(at, &results);
    let table = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| line.trim_start().starts_with('A'));
        lines.map(String::from).collect()
    };
    assert_eq!(table(&by_weights), table(&by_file));
    assert_eq!(table(&by_file).len(), 12, "{by_file}");
    let error = cli_error(
        at,
        &["eval", "--results=shapes/val/000000.png", "--data=shapes"],
    );
    assert!(error.contains("000000.png"), "{error}");
}
