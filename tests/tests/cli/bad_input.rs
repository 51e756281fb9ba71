//! Bad data: listed by `dataset check`, rejected or skipped by `train`, never a panic.

use crate::{cli, cli_error, cli_ok, render_shapes, shown, train_args};
use serde_json::{Value, json};
use std::path::Path;

const ANNOTATIONS: &str = "shapes/annotations/instances_train.json";

/// Eight rendered images with one kind of damage each.
fn damaged(at: &Path) {
    render_shapes(at, 8, 2);
    let path = at.join(ANNOTATIONS);
    let text = std::fs::read_to_string(&path).expect("annotations");
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    let images = file["images"].as_array_mut().expect("images");
    images.push(json!({"id": 100, "file_name": "missing.png", "width": 64, "height": 64}));
    images.push(json!({"id": 101, "file_name": "cut.jpg", "width": 64, "height": 64}));
    let (width, height) = (images[0]["width"].clone(), images[0]["height"].clone());
    let outside = [width.as_f64().expect("width") + 50.0, 5.0, 20.0, 20.0];
    let triangle = json!([[5, 5, 30, 5, 5, 30]]);
    let bad = [
        json!({"id": 9001, "bbox": [5, 5, 10, 10], "segmentation": [[5, 5, 15, 15]]}),
        json!({"id": 9002, "bbox": [5, 5, 10, 10], "segmentation": triangle, "category_id": 77}),
        json!({"id": 9003, "bbox": outside, "segmentation": triangle}),
        json!({"id": 9004, "bbox": ["NAN", 5, 10, 10], "segmentation": triangle}),
        json!({"id": 9005, "bbox": [5, 5, 10, 10], "segmentation": [[5, 5, "NAN", 5, 5, 30]]}),
        json!({"id": 9006, "bbox": [5, 5, 10, 10], "segmentation": {"size": [height, width],
               "counts": [3, 4]}}),
        json!({"id": 9007, "bbox": [5, 5, 10, 10], "segmentation": triangle, "image_id": 555}),
        json!({"id": 9008, "bbox": [5, 5, 0, 10], "segmentation": triangle}),
    ];
    let annotations = file["annotations"].as_array_mut().expect("annotations");
    for mut annotation in bad {
        let entry = annotation.as_object_mut().expect("an object");
        entry.entry("image_id").or_insert(json!(1));
        entry.entry("category_id").or_insert(json!(1));
        annotations.push(annotation);
    }
    // Python's json writes NaN without quotes.
    let text = file.to_string().replace("\"NAN\"", "NaN");
    std::fs::write(&path, text).expect("annotations");
    let rendered = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, 9]));
    let jpeg = at.join("shapes/train/cut.jpg");
    rendered.save(&jpeg).expect("a JPEG");
    let bytes = std::fs::read(&jpeg).expect("a JPEG");
    std::fs::write(&jpeg, &bytes[..bytes.len() / 3]).expect("half a JPEG");
}

#[test]
fn check_lists_file_id_reason_and_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    damaged(folder.path());
    let output = cli(folder.path(), &["dataset", "check", "shapes"]);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let wanted = [
        ("missing.png", "is missing"),
        ("cut.jpg", "not a readable image"),
        ("annotation 9001", "has 2 points"),
        ("annotation 9002", "category id 77 does not exist"),
        ("annotation 9003", "lies outside"),
        ("annotation 9004", "four finite numbers"),
        ("annotation 9005", "NaN"),
        ("annotation 9006", "covers 7 pixels"),
        ("annotation 9007", "image id 555 does not exist"),
        ("annotation 9008", "no area"),
    ];
    for (what, reason) in wanted {
        let line = text
            .lines()
            .find(|line| line.starts_with("error: ") && line.contains(what));
        let line = line.unwrap_or_else(|| panic!("no error about {what}:\n{text}"));
        assert!(line.contains(reason), "{line}");
        // File first, fix last.
        assert!(line.contains("shapes/") && line.contains("; "), "{line}");
    }
    assert!(text.contains("10 errors"), "{text}");
}

#[test]
fn train_refuses_or_skips() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    damaged(at);
    let mut train = train_args();
    let refused = cli_error(at, &train);
    assert!(refused.contains("instances_train.json") && refused.contains("dataset check"));
    assert!(!at.join("runs").exists(), "a refused run leaves no folder");

    train.push("--set=data.on_problem=skip");
    let output = cli(at, &train);
    assert!(output.status.success(), "{}", shown(&output));
    assert!(shown(&output).contains("9001"), "what is skipped is named");
}

#[test]
fn a_truncated_json_file_is_reported_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 2, 1);
    let text = std::fs::read_to_string(at.join(ANNOTATIONS)).expect("annotations");
    std::fs::write(at.join(ANNOTATIONS), &text[..text.len() / 2]).expect("half of it");
    let output = cli(at, &["dataset", "check", "shapes"]);
    let found = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert!(
        found.contains("instances_train.json") && found.contains("line 1"),
        "{found}"
    );
    assert!(
        found.contains("val: 1 images"),
        "the other split is still checked: {found}"
    );
    let refused = cli_error(at, &["train", "--data=shapes", "--backend=cpu"]);
    assert!(refused.contains("instances_train.json"), "{refused}");
}

#[test]
fn a_truncated_image_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 2, 1);
    let path = at.join("shapes/train/000001.png");
    let bytes = std::fs::read(&path).expect("an image");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of it");
    let mut train = train_args();
    let refused = cli_error(at, &train);
    assert!(refused.contains("000001.png"), "{refused}");
    assert!(!at.join("runs").exists());
    train.push("--set=data.on_problem=skip");
    cli_ok(at, &train);
}

#[test]
fn command_line_errors_have_a_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mistakes: [(&[&str], &str); 7] = [
        (&["train", "--backend=cpu"], "--data DIR"),
        (&["train", "--data=nowhere", "--backend=cpu"], "nowhere"),
        (&["train", "--config=none.toml", "--data=."], "none.toml"),
        (
            &[
                "train",
                "--config=quickstart",
                "--data=.",
                "--set=train.stepz=1",
            ],
            "train.stepz",
        ),
        (
            &["eval", "--weights=none.safetensors", "--backend=cpu"],
            "none.safetensors",
        ),
        (&["predict", "none.jpg", "--backend=cpu"], "none.jpg"),
        (&["dataset", "check", "nowhere"], "nowhere"),
    ];
    for (args, wanted) in mistakes {
        let error = cli_error(at, args);
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
    std::fs::write(at.join("bad.safetensors"), b"not weights").expect("a file");
    let error = cli_error(at, &["eval", "--weights=bad.safetensors", "--backend=cpu"]);
    assert!(
        error.contains("bad.safetensors") && error.contains("safetensors file"),
        "{error}"
    );
}

/// An invalid instruction set is rejected when the device is selected, not in the first kernel.
#[test]
fn an_instruction_set_that_the_cpu_lacks_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut args = train_args();
    args.push("--out=run");
    let output = std::process::Command::new(crate::binary())
        .args(args)
        .current_dir(at)
        .env("MRCNN_CPU_ISA", "sse9")
        .output()
        .expect("a process");
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(
        text.contains("MRCNN_CPU_ISA=\"sse9\"") && text.contains("plain"),
        "{text}"
    );
    assert!(!at.join("run").exists(), "nothing is written");
}
