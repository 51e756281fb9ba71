//! The options of `eval`.

use super::predict::detections;
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
        let output = cli_ok(at, &args);
        assert!(output.contains("none.json against"), "{output}");
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
    ("--tta", |at| {
        let found = |name: &str, more: &[&str]| {
            let file = format!("--json={name}");
            eval(at, &[&[file.as_str()], more].concat());
            json(&at.join(name))
        };
        let augmented = found("augmented.json", &["--tta"]);
        assert!(augmented != found("plain.json", &[]));
        // The same views as in `predict`.
        let by_predict = detections(at, "augmented", &["--tta", "--score=0.05"]);
        let boxes = |records: &[serde_json::Value]| {
            let sure = records
                .iter()
                .filter(|record| record["score"].as_f64() > Some(0.06));
            sure.map(|record| record["bbox"].to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            boxes(augmented.as_array().expect("a list")),
            boxes(&by_predict)
        );
        let error = shown(&cli(at, &["eval", "--results=none.json", "--tta"]));
        assert!(error.contains("cannot be used with"), "{error}");
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
