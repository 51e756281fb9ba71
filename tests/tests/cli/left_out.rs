//! Images that cannot be used: each kind of truncated file is named, and what `data.on_problem=skip` leaves out is named
//! and counted in every output.

use crate::evidence::{read, records};
use crate::{cli, cli_error, render_shapes, shown, train_args};
use image::codecs::jpeg::JpegEncoder;
use serde_json::{Value, json};
use std::fs::write;
use std::path::Path;

/// A JPEG with detail everywhere, so that every byte of its data matters.
fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        let noise = (x * 7919 + y * 104_729 + x * y * 31) % 97;
        image::Rgb([(x + noise) as u8, (y + noise) as u8, (x + y) as u8])
    };
    let mut bytes = Vec::new();
    let image = image::RgbImage::from_fn(width, height, pixel);
    image
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92))
        .expect("a JPEG");
    bytes
}

/// The file without its end, with zeros in place of parts, or with another end.
fn truncated(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let length = bytes.len();
    let part = |fraction: f64| (length as f64 * fraction) as usize;
    let zeroed = |from: usize, to: usize| {
        let mut bytes = bytes.to_vec();
        bytes[from..to].fill(0);
        bytes
    };
    vec![
        ("most", bytes[..part(0.98)].to_vec()),
        ("half", bytes[..part(0.5)].to_vec()),
        ("zeroed_end", zeroed(part(0.6), length)),
        ("zeroed_block", zeroed(part(0.4), part(0.4) + 4096)),
        ("no_end_marker", bytes[..length - 2].to_vec()),
        (
            "early_end_marker",
            [&bytes[..part(0.6)], &[0xFF, 0xD9]].concat(),
        ),
    ]
}

/// Adds the image `name` with one object to a split; its entry has the size 160x120.
fn add(at: &Path, split: &str, id: u64, name: &str, bytes: &[u8]) {
    write(at.join("shapes").join(split).join(name), bytes).expect("an image");
    let path = at.join(format!("shapes/annotations/instances_{split}.json"));
    let mut file: Value = serde_json::from_str(&read(&path)).expect("JSON");
    let list = |file: &mut Value, key: &str, entry: Value| {
        file[key].as_array_mut().expect("a list").push(entry);
    };
    let image = json!({"id": id, "file_name": name, "width": 160, "height": 120});
    list(&mut file, "images", image);
    let object = json!({"id": id, "image_id": id, "category_id": 1, "bbox": [10, 10, 30, 20], "area": 600,
        "iscrowd": 0, "segmentation": [[10, 10, 40, 10, 40, 30, 10, 30]]});
    list(&mut file, "annotations", object);
    write(&path, file.to_string()).expect("annotations");
}

#[test]
fn every_kind_of_truncated_file_is_named_by_check_and_predict() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 2, 1);
    let whole = jpeg(160, 120);
    let mut kinds = truncated(&whole);
    let png = read_bytes(&at.join("shapes/train/000001.png"));
    kinds.push(("png", png[..png.len() * 6 / 10].to_vec()));
    for (index, (name, bytes)) in kinds.iter().enumerate() {
        add(
            at,
            "train",
            5000 + index as u64,
            &format!("{name}.jpg"),
            bytes,
        );
    }
    add(at, "train", 6000, "whole.jpg", &whole);
    let check = cli(at, &["dataset", "check", "shapes", "--all"]);
    let text = shown(&check);
    assert_eq!(check.status.code(), Some(1), "{text}");
    assert!(!text.contains("whole.jpg"), "{text}");
    for (name, _) in &kinds {
        let named =
            |line: &&str| line.starts_with("error: ") && line.contains(&format!("{name}.jpg"));
        let line = text.lines().find(named);
        let line = line.unwrap_or_else(|| panic!("{name} is not named:\n{text}"));
        assert!(line.contains("not a readable image"), "{line}");
    }

    let trained = cli(
        at,
        &[
            &train_args()[..],
            &["--out=run", "--set=data.on_problem=skip"],
        ]
        .concat(),
    );
    assert!(trained.status.success(), "{}", shown(&trained));
    let predict = cli(
        at,
        &[
            "predict",
            "shapes",
            "--split=train",
            "--weights=run/best.safetensors",
            "--backend=cpu",
            "--out=found",
        ],
    );
    let text = shown(&predict);
    assert_eq!(predict.status.code(), Some(1), "{text}");
    let entries: Vec<Value> =
        serde_json::from_str(&read(&at.join("found/images.json"))).expect("JSON");
    for (name, _) in &kinds {
        let file = format!("{name}.jpg");
        assert!(text.contains(&file), "{text}");
        let entry = entries
            .iter()
            .find(|entry| entry["file_name"] == file.as_str());
        assert!(
            entry.is_some_and(|entry| entry["error"].is_string()),
            "{name}: {entries:?}"
        );
    }
    assert!(
        text.contains(&format!("{} of 10 images", kinds.len())),
        "{text}"
    );
}

fn read_bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Two images of the training set and three of the validation set that cannot be used: truncated, missing, of another
/// size.
fn dataset(at: &Path) -> [&'static str; 5] {
    render_shapes(at, 4, 2);
    let whole = jpeg(160, 120);
    add(
        at,
        "train",
        5001,
        "train_cut.jpg",
        &whole[..whole.len() / 2],
    );
    add(at, "train", 5002, "train_gone.jpg", &whole);
    add(at, "val", 5003, "val_cut.jpg", &whole[..whole.len() / 2]);
    add(at, "val", 5004, "val_gone.jpg", &whole);
    add(at, "val", 5005, "val_size.jpg", &jpeg(150, 110));
    for gone in ["train/train_gone.jpg", "val/val_gone.jpg"] {
        std::fs::remove_file(at.join("shapes").join(gone)).expect("an image");
    }
    [
        "train_cut.jpg",
        "train_gone.jpg",
        "val_cut.jpg",
        "val_gone.jpg",
        "val_size.jpg",
    ]
}

#[test]
fn images_that_are_left_out_are_named_and_counted_in_every_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let names = dataset(at);
    let mut train = train_args();
    train.push("--out=run");
    let refused = cli_error(at, &train);
    assert!(refused.contains("_gone.jpg"), "{refused}");

    train.push("--set=data.on_problem=skip");
    let trained = cli(at, &train);
    assert!(trained.status.success(), "{}", shown(&trained));
    let run = at.join("run");
    for (output, text) in [
        ("terminal", shown(&trained)),
        ("train.log", read(&run.join("train.log"))),
        ("report.html", read(&run.join("report.html"))),
        ("metrics.jsonl", read(&run.join("metrics.jsonl"))),
    ] {
        for name in names {
            assert!(
                text.contains(name),
                "{output} does not name {name}:\n{text}"
            );
        }
    }
    for output in ["train.log", "report.html"] {
        let text = read(&run.join(output));
        assert!(
            text.contains("2 images left out") && text.contains("3 images left out"),
            "{output}: {text}"
        );
    }
    let found = records(&run, "left_out");
    let [record] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((&record["step"], &record["count"]), (&json!(0), &json!(5)));
    for (image, name) in record["images"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(names)
    {
        assert_eq!(
            image["split"],
            if name.starts_with("val") {
                "val"
            } else {
                "train"
            },
            "{image}"
        );
        let file = image["file"].as_str().expect("a file");
        assert!(
            names.iter().any(|name| file.ends_with(name)) && image["reason"].is_string(),
            "{image}"
        );
    }
    // Tables and plots have steps and evaluations only.
    assert_eq!(
        read(&run.join("steps.csv")).lines().count(),
        1 + records(&run, "step").len()
    );

    let eval = cli(
        at,
        &[
            "eval",
            "--weights=run/best.safetensors",
            "--backend=cpu",
            "--data=shapes",
            "--json=found.json",
        ],
    );
    let text = shown(&eval);
    assert!(eval.status.success(), "{text}");
    assert!(
        text.contains("2 images of") && text.contains("3 images left out"),
        "{text}"
    );
    let left_out: Vec<Value> =
        serde_json::from_str(&read(&at.join("found.left_out.json"))).expect("JSON");
    assert_eq!(left_out.len(), 3);
    for name in &names[2..] {
        assert!(text.contains(name), "{name}: {text}");
        assert!(left_out.iter().any(|image| {
            image["file"]
                .as_str()
                .is_some_and(|file| file.ends_with(name))
        }));
    }

    let predict = cli(
        at,
        &[
            "predict",
            "shapes",
            "--split=val",
            "--weights=run/best.safetensors",
            "--backend=cpu",
            "--out=found",
        ],
    );
    let text = shown(&predict);
    assert_eq!(predict.status.code(), Some(1), "{text}");
    assert!(
        text.contains("val_cut.jpg") && text.contains("val_gone.jpg"),
        "{text}"
    );
    assert!(text.contains("2 of 5 images"), "{text}");
    let entries: Vec<Value> =
        serde_json::from_str(&read(&at.join("found/images.json"))).expect("JSON");
    let failed = entries.iter().filter(|entry| entry["error"].is_string());
    assert_eq!((entries.len(), failed.count()), (5, 2));
}

#[test]
fn a_resumed_run_records_only_other_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    dataset(at);
    let train = [
        &train_args()[..],
        &["--out=run", "--set=data.on_problem=skip"],
    ]
    .concat();
    let trained = cli(at, &train);
    assert!(trained.status.success(), "{}", shown(&trained));
    let resume = |steps: &str| {
        let steps = format!("--set=train.steps={steps}");
        let resumed = cli(at, &["train", "--resume=run", "--backend=cpu", &steps]);
        assert!(resumed.status.success(), "{}", shown(&resumed));
        records(&at.join("run"), "left_out").len()
    };
    assert_eq!(resume("4"), 1);
    write(at.join("shapes/val/val_gone.jpg"), jpeg(160, 120)).expect("an image");
    assert_eq!(resume("5"), 2);
    let last = records(&at.join("run"), "left_out")
        .pop()
        .expect("a record");
    assert_eq!((&last["step"], &last["count"]), (&json!(4), &json!(4)));
}

#[test]
fn images_that_fail_during_training_are_named_once_in_every_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 3, 2);
    add(at, "train", 5001, "train_cut.jpg", &jpeg(160, 120)[..4000]);
    add(at, "train", 5002, "train_size.jpg", &jpeg(150, 110));
    add(at, "val", 5003, "val_empty.jpg", b"");
    let names = ["train_cut.jpg", "train_size.jpg", "val_empty.jpg"];
    let mut train = train_args();
    train.extend([
        "--out=run",
        "--set=data.check_images=false",
        // Two epochs and two evaluations, of which the second ones find the same images.
        "--set=train.steps=6",
        "--set=train.eval_every=3",
    ]);
    let refused = cli_error(at, &train);
    assert!(refused.contains("data.on_problem=skip"), "{refused}");

    train.extend(["--set=data.on_problem=skip", "--out=run2"]);
    let train: Vec<&str> = train
        .into_iter()
        .filter(|arg| *arg != "--out=run")
        .collect();
    let trained = cli(at, &train);
    let text = shown(&trained);
    assert!(trained.status.success(), "{text}");
    let run = at.join("run2");
    let log = read(&run.join("train.log"));
    for name in names {
        let is_line = |line: &&str| line.contains(name) && line.contains("is left out");
        assert_eq!(log.lines().filter(is_line).count(), 1, "{name}: {log}");
        assert!(text.contains(name), "{name}: {text}");
        let report = read(&run.join("report.html"));
        assert!(report.contains(name), "{name} is not in the report");
    }
    assert!(log.contains("(3 so far)"), "{log}");
    assert!(log.contains("the file is empty"), "{log}");
    let found = records(&run, "left_out");
    let images: Vec<&Value> = found
        .iter()
        .flat_map(|record| record["images"].as_array().expect("a list"))
        .collect();
    assert_eq!(images.len(), 3, "{found:?}");
    for name in names {
        let is_it = |image: &&&Value| {
            let file = image["file"].as_str().expect("a file");
            file.ends_with(name) && image["reason"].is_string()
        };
        let split = images.iter().find(is_it).map(|image| &image["split"]);
        assert_eq!(split, Some(&json!(name.split_once('_').unwrap().0)));
    }
    assert_eq!(found.last().map(|record| &record["count"]), Some(&json!(3)));

    // A resumed run with the same images adds no record.
    let resumed = cli(
        at,
        &[
            "train",
            "--resume=run2",
            "--backend=cpu",
            "--set=train.steps=8",
        ],
    );
    assert!(resumed.status.success(), "{}", shown(&resumed));
    assert_eq!(records(&run, "left_out").len(), found.len());
}
