//! Datasets that can be used, but are probably not what was meant: each is reported in one line.

use crate::evidence::read;
use crate::{cli, cli_error, render_shapes, shown, train_args};
use serde_json::{Value, json};
use std::fs::write;
use std::path::Path;

/// Changes the annotation file of a split of `shapes/`.
fn edit(at: &Path, split: &str, change: impl FnOnce(&mut Value)) {
    let path = at.join(format!("shapes/annotations/instances_{split}.json"));
    let mut file: Value = serde_json::from_str(&read(&path)).expect("JSON");
    change(&mut file);
    write(&path, file.to_string()).expect("annotations");
}

fn annotations(file: &mut Value) -> &mut Vec<Value> {
    file["annotations"].as_array_mut().expect("a list")
}

/// The lines of `dataset check` that begin with `error` or `warning`, and its exit status.
fn findings(at: &Path) -> (Vec<String>, Option<i32>) {
    let check = cli(at, &["dataset", "check", "shapes"]);
    let text = shown(&check);
    let is_finding = |line: &&str| line.starts_with("warning: ") || line.starts_with("error: ");
    let lines = text.lines().filter(is_finding).map(String::from);
    (lines.collect(), check.status.code())
}

/// The only finding with `kind`.
#[track_caller]
fn only(lines: &[String], kind: &str) -> String {
    let found: Vec<&String> = lines.iter().filter(|line| line.contains(kind)).collect();
    assert_eq!(found.len(), 1, "`{kind}`: {lines:#?}");
    found[0].clone()
}

#[test]
fn many_crowds_are_reported_by_check_and_train() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 6, 2);
    let mut all = 0;
    edit(at, "train", |file| {
        let annotations = annotations(file);
        all = annotations.len();
        for annotation in &mut annotations[..all / 2] {
            annotation["iscrowd"] = json!(1);
        }
    });
    let wanted = format!("{} of its {all} objects are crowds", all / 2);
    let (lines, status) = findings(at);
    assert_eq!(status, Some(0), "{lines:?}");
    let line = only(&lines, &wanted);
    for part in [
        "warning: ",
        "instances_train.json",
        "iscrowd=1",
        "never trained on",
        "CVAT",
        "export polygons",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let trained = cli(at, &[&train_args()[..], &["--out=run"]].concat());
    let text = shown(&trained);
    assert!(trained.status.success(), "{text}");
    assert_eq!(text.matches(&wanted).count(), 1, "{text}");
    assert!(read(&at.join("run/train.log")).contains(&wanted));
}

#[test]
fn categories_with_other_ids_are_matched_by_name_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    edit(at, "val", |file| {
        for category in file["categories"].as_array_mut().expect("a list") {
            category["id"] = json!(50 - category["id"].as_u64().expect("an id"));
        }
        for annotation in annotations(file) {
            annotation["category_id"] =
                json!(50 - annotation["category_id"].as_u64().expect("an id"));
        }
    });
    let (lines, status) = findings(at);
    assert_eq!(status, Some(0), "{lines:?}");
    let line = only(&lines, "matched by name");
    let is_whole = line.contains("instances_val.json") && line.contains("instances_train.json");
    assert!(is_whole && line.contains("other ids"), "{line}");
    let trained = cli(at, &[&train_args()[..], &["--out=run"]].concat());
    let text = shown(&trained);
    assert!(trained.status.success(), "{text}");
    for file in ["train.log", "report.html"] {
        let text = read(&at.join("run").join(file));
        assert!(
            text.contains("categories matched by name"),
            "{file}: {text}"
        );
    }
    let eval = cli(
        at,
        &[
            "eval",
            "--weights=run/best.safetensors",
            "--data=shapes",
            "--backend=cpu",
        ],
    );
    assert!(eval.status.success(), "{}", shown(&eval));

    // A class that the training set lacks is an error with both lists.
    edit(at, "val", |file| {
        let categories = file["categories"].as_array_mut().expect("a list");
        for (index, category) in categories.iter_mut().enumerate() {
            category["name"] = json!(format!("Other {index}"));
        }
    });
    let refused = cli_error(at, &[&train_args()[..], &["--out=run2"]].concat());
    assert!(refused.contains("no class `Other "), "{refused}");
}

#[test]
fn suspicious_annotations_are_one_warning_per_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 6, 2);
    assert_eq!(findings(at).1, Some(0));
    let mut copied = 0;
    edit(at, "train", |file| {
        let next = file["annotations"].as_array().expect("a list").len() as u64;
        let copies: Vec<Value> = (annotations(file)[..3].iter().cloned())
            .zip(next + 1000..)
            .map(|(mut copy, id)| {
                copy["id"] = json!(id);
                copy
            })
            .collect();
        copied = copies.len();
        annotations(file).extend(copies);
        for annotation in &mut annotations(file)[4..6] {
            annotation["area"] = json!(annotation["area"].as_f64().expect("an area") * 1000.0);
        }
        let first = file["categories"][0]["name"].clone();
        let similar = first.as_str().expect("a name").to_uppercase();
        let categories = file["categories"].as_array_mut().expect("a list");
        categories.push(json!({"id": 900, "name": format!(" {similar} ")}));
        categories.push(json!({"id": 901, "name": ""}));
    });
    let (lines, status) = findings(at);
    assert_eq!(status, Some(0), "{lines:?}");
    let copies = only(&lines, "are copies of another one");
    assert!(
        copies.contains(&format!("{copied} annotations are copies")),
        "{copies}"
    );
    assert!(
        only(&lines, "`area` is").contains("2 annotations"),
        "{lines:?}"
    );
    assert!(only(&lines, "differ only by case or spaces").contains("900"));
    assert!(only(&lines, "has an empty name").contains("category 901"));
}

#[test]
fn errors_name_the_cause_and_not_another_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 6, 2);
    edit(at, "train", |file| {
        // Without EXIF data, so an orientation cannot be the cause.
        let sides = [
            file["images"][0]["width"].clone(),
            file["images"][0]["height"].clone(),
        ];
        let [width, height] = sides.map(|side| side.as_u64().expect("a side"));
        file["images"][0]["width"] = json!(height + u64::from(width == height));
        file["images"][0]["height"] = json!(width);
        file["images"][1]["file_name"] = json!("empty.png");
        file["images"][2]["file_name"] = json!("twice.png");
        let bbox = &mut annotations(file).last_mut().expect("an object")["bbox"];
        let numbers: Vec<f64> = serde_json::from_value(bbox.clone()).expect("a box");
        let [x, y, w, h] = numbers[..] else {
            panic!("{numbers:?}")
        };
        *bbox = json!([x + w, y + h, -w, -h]);
    });
    write(at.join("shapes/train/empty.png"), "").expect("a file");
    for part in ["a", "b"] {
        let to = at.join("shapes/train").join(part);
        std::fs::create_dir(&to).expect("a folder");
        std::fs::copy(at.join("shapes/train/000003.png"), to.join("twice.png")).expect("an image");
    }
    let (lines, status) = findings(at);
    assert_eq!(status, Some(1), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("EXIF")), "{lines:?}");
    only(&lines, "in its entry");
    only(&lines, "the file is empty");
    only(&lines, "several files in other folders");
    only(&lines, "negative width or height");
}

/// `eval --results` with results made of the ground truth of `shapes/`, and its output.
fn evaluated(at: &Path, change: impl Fn(&mut Value, &str)) -> (bool, String) {
    let path = at.join("shapes/annotations/instances_val.json");
    let file: Value = serde_json::from_str(&read(&path)).expect("JSON");
    let categories = file["categories"].as_array().expect("a list");
    let results: Vec<Value> = file["annotations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|annotation| {
            let category = categories
                .iter()
                .find(|c| c["id"] == annotation["category_id"]);
            let name = category.and_then(|c| c["name"].as_str()).expect("a name");
            let mut result = json!({"image_id": annotation["image_id"], "score": 0.9,
                "category_id": annotation["category_id"], "bbox": annotation["bbox"]});
            change(&mut result, name);
            result
        })
        .collect();
    write(at.join("results.json"), json!(results).to_string()).expect("results");
    let eval = cli(at, &["eval", "--results=results.json", "--data=shapes"]);
    (eval.status.success(), shown(&eval))
}

#[test]
fn results_are_read_as_they_are_meant_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 1, 8);
    let is_perfect = |text: &str| {
        let is_ap = |line: &&str| line.trim_start().starts_with("AP ");
        text.lines()
            .find(is_ap)
            .is_some_and(|line| line.contains("1.000"))
    };
    let (done, text) = evaluated(at, |_, _| {});
    assert!(done && is_perfect(&text), "{text}");
    // Class names beside the ids, and in place of them.
    let (done, text) = evaluated(at, |result, name| result["category_name"] = json!(name));
    assert!(done && is_perfect(&text), "{text}");
    let (done, text) = evaluated(at, |result, name| result["category_id"] = json!(name));
    assert!(done && is_perfect(&text), "{text}");
    assert!(text.contains("taken from their names"), "{text}");

    let corners = |bbox: &Value| -> Value {
        let v: Vec<f64> = serde_json::from_value(bbox.clone()).expect("a box");
        json!([v[0], v[1], v[0] + v[2], v[1] + v[3]])
    };
    let scaled = |bbox: &Value| -> Value {
        let v: Vec<f64> = serde_json::from_value(bbox.clone()).expect("a box");
        json!(v.iter().map(|v| v / 4096.0).collect::<Vec<_>>())
    };
    let refused = [
        (
            evaluated(at, |result, _| result["category_name"] = json!("whale")),
            "no class `whale`",
        ),
        (
            evaluated(at, |result, _| result["bbox"] = corners(&result["bbox"])),
            "x1, y1, x2, y2",
        ),
        (
            evaluated(at, |result, _| result["bbox"] = scaled(&result["bbox"])),
            "normalized",
        ),
        (
            evaluated(at, |result, _| result["bbox"][2] = json!(-5.0)),
            "negative width",
        ),
    ];
    for ((done, text), wanted) in refused {
        assert!(!done && text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn a_class_that_is_listed_twice_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 2, 1);
    let trained = cli(at, &[&train_args()[..], &["--out=run"]].concat());
    assert!(trained.status.success(), "{}", shown(&trained));
    write(at.join("names.txt"), "square\r\ndisc\r\n\r\nsquare\r\n").expect("names");
    let arguments = [
        "convert",
        "run/best.safetensors",
        "--classes=names.txt",
        "--out=out.safetensors",
    ];
    let refused = cli_error(at, &arguments);
    assert!(refused.contains("`square` is listed twice"), "{refused}");
}

/// A TIFF file with two pages.
fn two_pages(path: &Path) {
    let file = std::fs::File::create(path).expect("a file");
    let mut encoder = tiff::encoder::TiffEncoder::new(file).expect("an encoder");
    for _ in 0..2 {
        let pixels = [127; 3 * 64 * 48];
        let page = encoder.write_image::<tiff::encoder::colortype::RGB8>(64, 48, &pixels);
        page.expect("a page");
    }
}

#[test]
fn files_with_several_images_are_named_by_check_and_predict() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    two_pages(&at.join("shapes/train/scan.tif"));
    edit(at, "train", |file| {
        let images = file["images"].as_array_mut().expect("a list");
        images.push(json!({"id": 99, "file_name": "scan.tif", "width": 64, "height": 48}));
    });
    let (lines, status) = findings(at);
    assert_eq!(status, Some(0), "{lines:?}");
    let line = only(&lines, "more than one frame or page");
    assert!(line.contains("scan.tif"), "{line}");

    write(at.join("w.safetensors"), mrcnn_tests::small_weights()).expect("weights");
    two_pages(&at.join("scan.tif"));
    let args = [
        "predict",
        "scan.tif",
        "--weights=w.safetensors",
        "--backend=cpu",
    ];
    let predicted = cli(at, &args);
    let text = shown(&predicted);
    assert!(predicted.status.success(), "{text}");
    let lines: Vec<String> = text.lines().map(String::from).collect();
    let line = only(&lines, "more than one frame or page");
    assert!(line.contains("scan.tif"), "{line}");
}
