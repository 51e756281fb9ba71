//! Rendering, training, evaluation and prediction, and the files that each command writes.

use crate::{SMALL, cli_ok, render_shapes, train_args};
use serde_json::Value;
use std::path::Path;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn from_rendering_to_prediction() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 6, 4);
    let report = cli_ok(at, &["dataset", "check", "shapes"]);
    assert!(
        report.contains("train: 6 images") && report.contains("0 errors"),
        "{report}"
    );

    let mut train = train_args();
    train.extend(["--out=run", "--set=train.eval_every=2"]);
    let table = cli_ok(at, &train);
    assert!(
        table.contains("AP50") && table.contains("mask area"),
        "{table}"
    );
    run_folder_is_complete(&at.join("run"));

    let weights = "--weights=run/best.safetensors";
    let table = cli_ok(at, &["eval", weights, "--backend=cpu", "--json=found.json"]);
    assert_eq!(
        table
            .lines()
            .filter(|l| l.trim_start().starts_with('A'))
            .count(),
        12,
        "{table}"
    );
    serde_json::from_str::<Vec<Value>>(&read(&at.join("found.json"))).expect("COCO results");
    let table = cli_ok(at, &["eval", weights, "--backend=cpu", "--area=box"]);
    assert!(table.contains("box area"), "{table}");

    let predict = [
        "predict",
        "shapes/val",
        "shapes/train/*.png",
        "--backend=cpu",
        "--score=0",
        weights,
    ];
    let table = cli_ok(at, &predict);
    assert_eq!(table.matches(".png").count(), 10, "{table}");
    let records: Vec<Value> =
        serde_json::from_str(&read(&at.join("runs/predict/detections.json"))).expect("JSON");
    for record in &records {
        assert!(record["segmentation"]["counts"].is_string() && record["file_name"].is_string());
    }
    let overlays = std::fs::read_dir(at.join("runs/predict"))
        .expect("a folder")
        .count();
    // With detections.json and images.json.
    assert_eq!(overlays, 12);
}

fn run_folder_is_complete(run: &Path) {
    let args = read(&run.join("args.toml"));
    assert!(
        args.contains("steps = 3") && args.contains("num_classes = 5"),
        "{args}"
    );
    let lines: Vec<Value> = read(&run.join("metrics.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of_kind("step"), of_kind("eval")), (3, 2));
    assert!(lines[0]["loss_mask"].as_f64().is_some_and(f64::is_finite));
    for file in [
        "last.safetensors",
        "best.safetensors",
        "curves.svg",
        "val_predictions/1.png",
    ] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
}

#[test]
fn a_seed_reproduces_a_run_and_existing_folders_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let train = |seed: &str| {
        let mut args = train_args();
        args.extend(["--out=run", "--seed", seed]);
        cli_ok(at, &args);
    };
    for seed in ["5", "5", "6"] {
        train(seed);
    }
    let weights =
        |run: &str| std::fs::read(at.join(run).join("last.safetensors")).expect("weights");
    let tensors = |run: &str| {
        let bytes = weights(run);
        let header = u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(tensors("run"), tensors("run-2"), "one seed, two results");
    assert_ne!(tensors("run"), tensors("run-3"));
}

#[test]
fn quickstart_runs_from_an_empty_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut args = vec!["quickstart", "--backend=cpu", "--out=quick"];
    args.extend(SMALL);
    let text = cli_ok(folder.path(), &args);
    for line in ["mask AP", "s in all", "image:   quick/predictions.png"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let comparison = image::open(folder.path().join("quick/predictions.png")).expect("an image");
    assert!(comparison.width() > 256);
}
