//! The options of `dataset convert` and `dataset preview`.

use super::{Table, json, text};
use crate::{cli_error, cli_ok};
use std::path::Path;

/// `yolo/` with two training images and one validation image, with a triangle each.
pub fn yolo(at: &Path) {
    if at.join("yolo").exists() {
        return;
    }
    for (split, names) in [("train", &["a", "b"][..]), ("val", &["c"])] {
        let [images, labels] =
            ["images", "labels"].map(|kind| at.join("yolo").join(kind).join(split));
        for folder in [&images, &labels] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        for name in names {
            let image = image::RgbImage::new(40, 30);
            image
                .save(images.join(format!("{name}.png")))
                .expect("an image");
            let line = "1 0.1 0.1 0.9 0.1 0.5 0.8\n";
            std::fs::write(labels.join(format!("{name}.txt")), line).expect("labels");
        }
    }
    let yaml = "train: images/train\nval: images/val\nnames: [cat, dog]\n";
    std::fs::write(at.join("yolo/data.yaml"), yaml).expect("data.yaml");
}

fn convert(at: &Path, more: &[&str]) -> String {
    yolo(at);
    let mut args = vec!["dataset", "convert"];
    args.extend(more);
    cli_ok(at, &args)
}

fn objects(at: &Path, file: &str) -> usize {
    json(&at.join(file))["annotations"]
        .as_array()
        .expect("a list")
        .len()
}

/// The images of `shapes/val` in another folder, and its annotations alone.
fn separate_images(at: &Path) {
    if at.join("apart").exists() {
        return;
    }
    std::fs::create_dir(at.join("apart")).expect("a folder");
    std::fs::copy(
        at.join("shapes/annotations/instances_val.json"),
        at.join("apart/labels.json"),
    )
    .expect("annotations");
}

pub const CHECK: Table = &[
    ("--images", |at| {
        separate_images(at);
        let check = ["dataset", "check", "apart/labels.json"];
        let missing = crate::cli(at, &check);
        assert_eq!(missing.status.code(), Some(1));
        assert!(crate::shown(&missing).contains("is missing"));
        let found = cli_ok(at, &[&check[..], &["--images=shapes/val"]].concat());
        assert!(found.contains("all: 2 images"), "{found}");
    }),
    ("--fix", |at| {
        std::fs::create_dir_all(at.join("corners/annotations")).expect("a folder");
        let mut file = json(&at.join("shapes/annotations/instances_val.json"));
        for annotation in file["annotations"].as_array_mut().expect("a list") {
            let [x, y, w, h] =
                std::array::from_fn(|i| annotation["bbox"][i].as_f64().expect("a number"));
            annotation["bbox"] = serde_json::json!([x, y, x + w, y + h]);
        }
        let wanted = file["annotations"].as_array().map_or(0, Vec::len);
        let path = at.join("corners/annotations/instances_val.json");
        std::fs::write(&path, file.to_string()).expect("annotations");
        let check = ["dataset", "check", "corners", "--images=shapes/val"];
        assert!(cli_error(at, &check).contains("errors"));
        let output = cli_ok(at, &[&check[..], &["--fix=fixed"]].concat());
        assert!(output.contains("x1, y1, x2, y2"), "{output}");
        assert_eq!(objects(at, "fixed/annotations/instances_val.json"), wanted);
        assert!(cli_ok(at, &["dataset", "check", "fixed"]).contains("0 errors"));
        assert_eq!(text(&path), file.to_string(), "the original");
    }),
    ("--all", |at| {
        separate_images(at);
        let lines = |more: &[&str]| {
            let args = [&["dataset", "check", "apart/labels.json"], more].concat();
            let text = crate::shown(&crate::cli(at, &args));
            text.matches("error: ").count()
        };
        assert!(lines(&["--all"]) > lines(&[]));
    }),
];

pub const STATS: Table = &[
    ("--images", |at| {
        separate_images(at);
        let args = [
            "dataset",
            "stats",
            "apart/labels.json",
            "--images=shapes/val",
        ];
        assert!(cli_ok(at, &args).contains("all: 2 images"));
    }),
    ("--html", |at| {
        let output = cli_ok(at, &["dataset", "stats", "shapes", "--html=stats.html"]);
        assert!(
            output.contains("train: 4 images") && output.contains("objects per class"),
            "{output}"
        );
        assert!(text(&at.join("stats.html")).contains("<h1>val</h1>"));
    }),
];

pub const CONVERT: Table = &[
    ("--from", |at| {
        let output = convert(at, &["--from=yolo", "yolo", "--out=coco"]);
        assert!(output.contains("train: 2 images, 2 objects"), "{output}");
        yolo(at);
        let error = cli_error(at, &["dataset", "convert", "--from=voc", "yolo", "--out=x"]);
        assert!(error.contains("no folder Annotations"), "{error}");
    }),
    ("--out", |at| {
        assert_eq!(objects(at, "coco/annotations/instances_train.json"), 2);
        let again = ["dataset", "convert", "--from=yolo", "yolo", "--out=coco"];
        assert!(cli_error(at, &again).contains("give another --out"));
        // The result can be used unchanged.
        let checked = cli_ok(at, &["dataset", "check", "coco"]);
        assert!(checked.contains("0 errors"), "{checked}");
    }),
    ("--split", |at| {
        convert(at, &["--from=yolo", "yolo", "--out=val", "--split=val"]);
        assert_eq!(objects(at, "val/annotations/instances_val.json"), 1);
        assert!(!at.join("val/train").exists());
    }),
    ("--images", |at| {
        let lvis = r#"{"images": [{"id": 7, "width": 40, "height": 30,
            "coco_url": "http://images.cocodataset.org/train2017/a.png"}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [4, 3, 32, 21],
                "area": 336, "segmentation": [[4, 3, 36, 3, 20, 24]]}],
            "categories": [{"id": 3, "name": "kite", "synonyms": ["kite"], "frequency": "r"}]}"#;
        std::fs::write(at.join("lvis_v1_train.json"), lvis).expect("JSON");
        let args = [
            "dataset",
            "convert",
            "--from=lvis",
            "lvis_v1_train.json",
            "--out=lvis",
        ];
        let error = cli_error(at, &args);
        assert!(error.contains("--images DIR"), "{error}");
        convert(
            at,
            &[
                "--from=lvis",
                "lvis_v1_train.json",
                "--out=lvis",
                "--images=yolo/images/train",
            ],
        );
        assert!(text(&at.join("lvis/annotations/instances_train.json")).contains("kite"));
        assert!(at.join("lvis/train/a.png").is_file());
    }),
];

/// The images of a preview by name.
fn preview(at: &Path, out: &str, more: &[&str]) -> Vec<(String, Vec<u8>)> {
    let out_arg = format!("--out={out}");
    let mut args = vec!["dataset", "preview", "shapes", &out_arg];
    if !more.iter().any(|arg| arg.starts_with("--config")) {
        args.push("--config=quickstart");
    }
    args.extend(more);
    cli_ok(at, &args);
    let entries = std::fs::read_dir(at.join(out)).expect("a folder");
    let mut images: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read(path).expect("an image"))
        })
        .collect();
    images.sort();
    images
}

pub const PREVIEW: Table = &[
    ("--out", |at| assert_eq!(preview(at, "seen", &[]).len(), 16)),
    ("--count", |at| {
        let some = preview(at, "some", &["--count=3"]);
        assert_eq!(some, preview(at, "seen-again", &[])[..3]);
    }),
    ("--seed", |at| {
        assert!(preview(at, "seeded", &["--seed=4"]) != preview(at, "seen-third", &[]));
    }),
    ("--set", |at| {
        let jitter = [
            "--set=augment.scale_jitter=[0.5, 2]",
            "--set=augment.jitter_size=96",
        ];
        for (_, image) in preview(at, "jittered", &jitter) {
            let image = image::load_from_memory(&image).expect("an image");
            assert_eq!((image.width(), image.height()), (96, 96));
        }
    }),
    ("--config", |at| {
        let large = preview(at, "config", &["--config=r50_fpn_1x_coco", "--count=1"]);
        let image = image::load_from_memory(&large[0].1).expect("an image");
        let shorter = image.width().min(image.height());
        assert!((640..=800).contains(&shorter), "{shorter}");
    }),
];
