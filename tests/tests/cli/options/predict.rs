//! The options of `predict`.

use super::{Table, is_offline, json, text};
use crate::video::{has_ffmpeg, lines, render_clip, streams};
use crate::{cli, cli_error, cli_ok, shown};
use std::path::Path;

/// Detections of the base run on the validation images, with further arguments.
pub fn detections(at: &Path, out: &str, more: &[&str]) -> Vec<serde_json::Value> {
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

/// Images of a run of `predict`.
fn images(at: &Path, out: &str) -> Vec<serde_json::Value> {
    let images = json(&at.join(out).join("images.json"));
    images.as_array().expect("a list").clone()
}

/// Every detection of the base run, with the name of a class of which there are some.
fn some_class(at: &Path, out: &str) -> (Vec<serde_json::Value>, u64, String) {
    let all = detections(at, out, &[]);
    let id = all[0]["category_id"].as_u64().expect("an id");
    let dataset = json(&at.join("shapes/annotations/instances_val.json"));
    let categories = dataset["categories"].as_array().expect("a list");
    let category = categories.iter().find(|category| category["id"] == id);
    let name = category.expect("the class")["name"]
        .as_str()
        .expect("a name");
    (all, id, name.to_string())
}

/// Numbers of the predicted frames of a video of 20.
fn frames(at: &Path, out: &str, more: &[&str]) -> Vec<u64> {
    if !at.join("clip.mp4").exists() {
        render_clip(&at.join("clip.mp4"), 2);
    }
    let out_arg = format!("--out={out}");
    let args = [
        "predict",
        "clip.mp4",
        "--backend=cpu",
        "--weights=base/last.safetensors",
    ];
    cli_ok(at, &[&args[..], &[&out_arg], more].concat());
    let lines = lines(&at.join(out).join("0001_clip.jsonl"));
    lines
        .iter()
        .filter_map(|line| line["frame"].as_u64())
        .collect()
}

/// The overlay of the first validation image, with further arguments.
fn overlay(at: &Path, out: &str, more: &[&str]) -> Vec<u8> {
    detections(at, out, more);
    let path = at.join(out).join("0001_000000.png");
    let image = image::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    image.into_rgb8().into_raw()
}

pub const PREDICT: Table = &[
    ("--classes", |at| {
        let (mut wanted, id, name) = some_class(at, "every-class");
        let found = detections(at, "one-class", &[&format!("--classes={name}")]);
        wanted.retain(|record| record["category_id"] == id);
        assert_eq!(found, wanted);
        let args = [
            "predict",
            "shapes/val",
            "--backend=cpu",
            "--classes=zebra",
            "--out=zebra",
        ];
        let args = [&args[..], &["--weights=base/last.safetensors"]].concat();
        let error = cli_error(at, &args);
        assert!(
            error.contains("--classes zebra") && error.contains(&name),
            "{error}"
        );
        assert!(!at.join("zebra").exists());
    }),
    ("--tile", |at| {
        // The tests of the library check that an object larger than a tile, and one that no border cuts, are found once
        // each. Here the number of tiles and the results of each image are checked.
        let whole = detections(at, "untiled", &["--tile=0"]);
        assert_eq!(whole, detections(at, "large-tiles", &["--tile=4000"]));
        let tiled = detections(at, "tiled", &["--tile=64", "--overlap=0.25"]);
        assert!(tiled != whole && !tiled.is_empty());
        let sizes = |found: &[serde_json::Value]| {
            let sizes = found
                .iter()
                .map(|record| record["segmentation"]["size"].to_string());
            sizes.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(sizes(&tiled), sizes(&whole), "masks of whole images");
        let args = [
            "predict",
            "shapes",
            "--weights=base/last.safetensors",
            "--tile=10",
        ];
        let error = cli_error(at, &args);
        assert!(error.contains("tiles have at least 64 pixels"), "{error}");
    }),
    ("--overlap", |at| {
        let [none, half] = ["0", "0.5"].map(|overlap| {
            let args = ["--tile=64", &format!("--overlap={overlap}")];
            detections(at, &format!("overlap-{overlap}"), &args)
        });
        assert!(none != half);
        let args = [
            "predict",
            "shapes",
            "--weights=base/last.safetensors",
            "--tile=64",
            "--overlap=0.9",
        ];
        let error = cli_error(at, &args);
        assert!(error.contains("overlap by 0 to 0.5"), "{error}");
    }),
    ("--tta", |at| {
        let augmented = detections(at, "with-views", &["--tta"]);
        assert!(!augmented.is_empty() && augmented != detections(at, "without-views", &[]));
        // The tiles of an image are augmented, too.
        let tiled = detections(at, "views-of-tiles", &["--tta", "--tile=4000"]);
        assert_eq!(tiled, augmented);
    }),
    ("--max-detections", |at| {
        let all = detections(at, "no-limit", &[]);
        let two = detections(at, "two", &["--max-detections=2"]);
        let images: Vec<_> = images(at, "two");
        assert!(
            images.iter().all(|image| image["detections"] == 2),
            "{images:?}"
        );
        let first = all
            .iter()
            .filter(|record| record["image_id"] == all[0]["image_id"])
            .take(2);
        assert_eq!(two[..2], first.cloned().collect::<Vec<_>>());
    }),
    ("--area", |at| {
        detections(at, "any-area", &["--save=csv"]);
        let areas = |out: &str| -> Vec<u64> {
            let table = text(&at.join(out).join("detections.csv"));
            let areas = table
                .lines()
                .skip(1)
                .filter_map(|line| line.rsplit(',').next());
            areas.map(|area| area.parse().expect("an area")).collect()
        };
        let mut sorted = areas("any-area");
        sorted.sort();
        let middle = sorted[sorted.len() / 2];
        detections(at, "large", &["--save=csv", &format!("--area={middle}..")]);
        let large = areas("large");
        assert!(!large.is_empty() && large.iter().all(|&area| area >= middle));
        assert_eq!(
            large.len(),
            sorted.iter().filter(|&&area| area >= middle).count()
        );
        let error = shown(&cli(at, &["predict", "shapes/val", "--area=9"]));
        assert!(error.contains("100..5000"), "{error}");
    }),
    ("--save", super::saved::save),
    ("--stride", |at| {
        if !has_ffmpeg() {
            return;
        }
        assert_eq!(frames(at, "strided", &["--stride=4"]), [0, 4, 8, 12, 16]);
        let annotated = streams(&at.join("strided/0001_clip.mp4"));
        assert_eq!(annotated["video"]["avg_frame_rate"], "5/2");
    }),
    ("--start", |at| {
        if has_ffmpeg() {
            assert_eq!(frames(at, "late", &["--start=1.5"]), [15, 16, 17, 18, 19]);
        }
    }),
    ("--end", |at| {
        if !has_ffmpeg() {
            return;
        }
        assert_eq!(frames(at, "early", &["--end=0:00.3"]), [0, 1, 2]);
        assert_eq!(frames(at, "part", &["--start=1", "--end=1.2"]), [10, 11]);
        let args = [
            "predict",
            "clip.mp4",
            "--start=1",
            "--end=1",
            "--backend=cpu",
        ];
        let args = [&args[..], &["--weights=base/last.safetensors"]].concat();
        assert!(cli_error(at, &args).contains("the end must be after the start"));
    }),
    ("--draw", |at| {
        let all = overlay(at, "drawn-all", &[]);
        let parts = "--draw=boxes,masks,labels,contours,scores";
        assert_eq!(overlay(at, "drawn-default", &[parts]), all);
        let parts = ["boxes", "masks", "labels", "contours", "scores"];
        let drawn: std::collections::BTreeSet<Vec<u8>> = parts
            .iter()
            .map(|part| overlay(at, &format!("drawn-{part}"), &[&format!("--draw={part}")]))
            .collect();
        assert_eq!(drawn.len(), parts.len());
        assert!(!drawn.contains(&all));
        let error = shown(&cli(at, &["predict", "shapes/val", "--draw=everything"]));
        assert!(
            error.contains("boxes, masks, labels, contours, scores"),
            "{error}"
        );
    }),
    ("--color", |at| {
        let parts = "--draw=boxes";
        let by_class = overlay(at, "by-class", &[parts, "--color=class"]);
        assert_eq!(by_class, overlay(at, "by-default", &[parts]));
        assert!(by_class != overlay(at, "by-instance", &[parts, "--color=instance"]));
    }),
    ("--font", |at| {
        let args = [
            "predict",
            "shapes/val",
            "--backend=cpu",
            "--font=shapes/val/000000.png",
        ];
        let error = cli_error(at, &args);
        assert!(
            error.contains("--font shapes/val/000000.png") && error.contains(".ttf"),
            "{error}"
        );
        let file = mrcnn_tests::root().join("core/src/image/font/DejaVuSansCondensed-Bold.ttf");
        let font = format!("--font={}", file.display());
        assert_eq!(overlay(at, "font", &[&font]), overlay(at, "embedded", &[]));
    }),
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
        let output = shown(&cli(at, &[&args[..], &["--out=flat"]].concat()));
        assert!(
            output.contains("1 subfolders are not read") && output.contains("c.gif"),
            "{output}"
        );
        assert_eq!(images(at, "flat").len(), 1, "{output}");
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
