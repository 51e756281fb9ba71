//! The options of `eval` and `predict`.

use super::{Table, is_offline, json, text};
use crate::{cli, cli_error, cli_ok, render_shapes, shown};
use std::path::Path;

/// `eval` of the base run with further arguments.
fn eval(at: &Path, more: &[&str]) -> String {
    let mut args = vec!["eval", "--backend=cpu"];
    if !more.iter().any(|arg| arg.starts_with("--weights")) {
        args.push("--weights=base/last.safetensors");
    }
    args.extend(more);
    cli_ok(at, &args)
}

/// Detections of the base run on the validation images, with further arguments.
fn detections(at: &Path, out: &str, more: &[&str]) -> Vec<serde_json::Value> {
    let out_arg = format!("--out={out}");
    let mut args = vec!["predict", "shapes/val", "--backend=cpu", &out_arg];
    if !more.iter().any(|arg| arg.starts_with("--weights")) {
        args.push("--weights=base/last.safetensors");
    }
    if !more.iter().any(|arg| arg.starts_with("--score")) {
        args.push("--score=0");
    }
    args.extend(more);
    cli_ok(at, &args);
    let records = json(&at.join(out).join("detections.json"));
    records.as_array().expect("a list").clone()
}

pub const EVAL: Table = &[
    ("--weights", |at| {
        let error = cli_error(at, &["eval", "--backend=cpu", "--weights=none.safetensors"]);
        assert!(error.contains("none.safetensors"), "{error}");
    }),
    ("--offline", |at| {
        is_offline(
            at,
            &[
                "eval",
                "--data=shapes",
                "--backend=cpu",
                "--weights=maskrcnn_resnet50_fpn",
            ],
        );
    }),
    ("--results", |at| {
        std::fs::write(at.join("none.json"), "[]").expect("results");
        let args = ["eval", "--results=none.json", "--data=shapes"];
        let told = cli_ok(at, &args);
        assert!(told.contains("none.json against"), "{told}");
        // No device is used for results files.
        let error = shown(&cli(at, &[&args[..], &["--backend=cpu"]].concat()));
        assert!(error.contains("cannot be used with"), "{error}");
        let stray = r#"[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1}]"#;
        std::fs::write(at.join("none.json"), stray).expect("results");
        let error = cli_error(at, &args);
        assert!(
            error.contains("no result's image_id is that of an image in"),
            "{error}"
        );
    }),
    ("--data", |at| {
        let other = at.join("other");
        std::fs::create_dir_all(&other).expect("a folder");
        render_shapes(&other, 1, 3);
        assert!(eval(at, &["--data=other/shapes"]).starts_with("3 images of other"));
        assert!(eval(at, &[]).starts_with("2 images of shapes"));
    }),
    ("--images", |at| {
        std::fs::create_dir_all(at.join("alone")).expect("a folder");
        let file = at.join("shapes/annotations/instances_val.json");
        std::fs::copy(file, at.join("alone/labels.json")).expect("annotations");
        let more = ["--data=alone/labels.json", "--images=shapes/val"];
        assert!(eval(at, &more).starts_with("2 images of alone"));
    }),
    ("--split", |at| {
        assert!(eval(at, &["--split=train"]).starts_with("4 images of"));
    }),
    ("--json", |at| {
        eval(at, &["--json=found.json"]);
        assert!(json(&at.join("found.json")).is_array());
    }),
    ("--config", |at| {
        // The weights do not fit another network.
        let args = [
            "eval",
            "--backend=cpu",
            "--weights=base/last.safetensors",
            "--config=nuclei",
        ];
        assert!(cli_error(at, &args).contains("base/last.safetensors"));
    }),
    ("--backend", |at| {
        let args = ["eval", "--weights=base/last.safetensors", "--backend=cuda"];
        assert!(cli_error(at, &args).contains("cuda backend"));
    }),
    ("--precision", |at| {
        let scores = |precision: &str| {
            let json_file = format!("{precision}.json");
            let args = [
                format!("--json={json_file}"),
                format!("--precision={precision}"),
            ];
            eval(at, &args.each_ref().map(String::as_str));
            text(&at.join(json_file))
        };
        assert!(scores("f32") != scores("bf16"));
    }),
    ("--set", |at| {
        eval(at, &["--json=many.json"]);
        eval(at, &["--json=few.json", "--set=model.roi.max_detections=1"]);
        let count = |file: &str| json(&at.join(file)).as_array().expect("a list").len();
        assert!(
            count("few.json") <= 2 && count("many.json") > 2,
            "{}",
            count("many.json")
        );
    }),
    ("--gpus", |at| {
        // The tests are built without CUDA; each of the two processes refuses --backend=cpu.
        let weights = "--weights=base/last.safetensors";
        let error = cli_error(at, &["eval", weights, "--backend=cpu", "--gpus=2"]);
        assert!(error.contains("use mpirun"), "{error}");
        assert!(error.contains("the others were stopped"), "{error}");
    }),
    ("--comm-timeout", |at| {
        // tests/tests/mpi checks that it ends a waiting rank; this build supports one rank.
        let weights = "--weights=base/last.safetensors";
        let output = cli(at, &["eval", weights, "--comm-timeout=0"]);
        assert!(shown(&output).contains("0 is not in 1.."), "{output:?}");
        assert!(eval(at, &["--comm-timeout=1"]).contains("images of"));
    }),
    ("--area", |at| {
        assert!(eval(at, &["--area=box"]).contains("by box area"));
        assert!(eval(at, &[]).contains("by mask area"));
    }),
];

/// Images of a run of `predict`.
fn images(at: &Path, out: &str) -> Vec<serde_json::Value> {
    let images = json(&at.join(out).join("images.json"));
    images.as_array().expect("a list").clone()
}

pub const PREDICT: Table = &[
    ("--split", |at| {
        let weights = "--weights=base/last.safetensors";
        let args = ["predict", "shapes", "--backend=cpu", weights, "--score=0"];
        for (split, count) in [("val", 2), ("train", 4)] {
            let out = format!("split-{split}");
            let more = [format!("--out={out}"), format!("--split={split}")];
            cli_ok(
                at,
                &[&args[..], &more.each_ref().map(String::as_str)].concat(),
            );
            assert_eq!(images(at, &out).len(), count);
        }
        // The ids are the dataset's.
        let ids = |list: &[serde_json::Value], key: &str| {
            let ids = list.iter().map(|value| value[key].as_u64().expect("an id"));
            ids.collect::<std::collections::BTreeSet<u64>>()
        };
        let dataset = json(&at.join("shapes/annotations/instances_val.json"));
        let wanted = ids(dataset["images"].as_array().expect("a list"), "id");
        assert_eq!(ids(&images(at, "split-val"), "id"), wanted);
        let results = "--results=split-val/detections.json";
        let table = cli_ok(at, &["eval", results, "--data=shapes"]);
        assert!(table.contains("AP50"), "{table}");
    }),
    ("--recursive", |at| {
        std::fs::create_dir_all(at.join("nested/below")).expect("a folder");
        std::fs::copy(at.join("shapes/val/000000.png"), at.join("nested/a.jfif"))
            .expect("an image");
        std::fs::copy(at.join("shapes/val/000001.png"), at.join("nested/below/b"))
            .expect("an image");
        std::fs::write(at.join("nested/c.gif"), "GIF89a").expect("a file");
        let weights = "--weights=base/last.safetensors";
        let args = ["predict", "nested", "--backend=cpu", weights];
        let told = shown(&cli(at, &[&args[..], &["--out=flat"]].concat()));
        assert!(
            told.contains("1 subfolders are not read") && told.contains("c.gif"),
            "{told}"
        );
        assert_eq!(images(at, "flat").len(), 1, "{told}");
        cli_ok(at, &[&args[..], &["--out=deep", "--recursive"]].concat());
        assert_eq!(images(at, "deep").len(), 2);
    }),
    ("--resume", |at| {
        let before = detections(at, "again", &[]);
        // As if it had ended after the first image.
        let first = images(at, "again").remove(0);
        std::fs::write(
            at.join("again/images.json"),
            serde_json::json!([first]).to_string(),
        )
        .expect("images");
        let name = |value: &serde_json::Value| value["file_name"].clone();
        let kept: Vec<_> = before
            .iter()
            .filter(|record| name(record) == name(&first))
            .collect();
        std::fs::write(
            at.join("again/detections.json"),
            serde_json::json!(kept).to_string(),
        )
        .expect("detections");
        assert_eq!(detections(at, "again", &["--resume"]), before);
        assert_eq!(images(at, "again").len(), 2);
    }),
    ("--weights", |at| {
        let args = [
            "predict",
            "shapes/val",
            "--backend=cpu",
            "--weights=none.safetensors",
        ];
        assert!(cli_error(at, &args).contains("none.safetensors"));
    }),
    ("--offline", |at| {
        is_offline(
            at,
            &[
                "predict",
                "shapes/val",
                "--backend=cpu",
                "--weights=maskrcnn_resnet50_fpn",
            ],
        );
    }),
    ("--out", |at| {
        detections(at, "there", &[]);
        assert!(at.join("there/0001_000000.png").is_file());
    }),
    ("--score", |at| {
        let (all, sure) = (
            detections(at, "all", &[]),
            detections(at, "sure", &["--score=1.1"]),
        );
        assert!(!all.is_empty() && sure.is_empty());
    }),
    ("--format", |at| {
        let args = [
            "predict",
            "shapes/val",
            "--backend=cpu",
            "--weights=base/last.safetensors",
        ];
        let table = cli_ok(at, &args);
        let mut args = args.to_vec();
        args.push("--format=json");
        assert!(table.contains("image") && cli_ok(at, &args).starts_with('['));
    }),
    ("--config", |at| {
        let weights = "--weights=base/last.safetensors";
        let args = [
            "predict",
            "shapes/val",
            "--backend=cpu",
            weights,
            "--config=nuclei",
        ];
        assert!(cli_error(at, &args).contains("base/last.safetensors"));
    }),
    ("--backend", |at| {
        let args = [
            "predict",
            "shapes/val",
            "--weights=base/last.safetensors",
            "--backend=cuda",
        ];
        assert!(cli_error(at, &args).contains("cuda backend"));
    }),
    ("--precision", |at| {
        let whole = detections(at, "whole-floats", &[]);
        let half = detections(at, "half-floats", &["--precision=f16"]);
        assert!(!half.is_empty() && half != whole);
    }),
    ("--set", |at| {
        let one = detections(at, "one", &["--set=model.roi.max_detections=1"]);
        assert!(one.len() <= 2 && detections(at, "more", &[]).len() > 2);
    }),
];
