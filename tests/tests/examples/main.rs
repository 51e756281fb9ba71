//! The examples of `mrcnn-core`, as the programs that they are; `batch_server` has tests of its own.

use mrcnn_core::data::shapes::{ShapesSpec, render};
use mrcnn_tests::{example, root};
use std::path::Path;
use std::process::Command;

/// Overrides that make a network small enough for a test.
const SMALL: [&str; 10] = [
    "model.width=8",
    "model.fpn_channels=16",
    "model.box_head.hidden=32",
    "model.mask_head.convs=[16]",
    "model.mask_head.hidden=16",
    "model.rpn.pre_nms_test=100",
    "model.rpn.post_nms_test=50",
    "train.batch_size=2",
    "train.steps=3",
    "train.val_pictures=2",
];

/// Runs an example in a folder; what it prints.
fn run(at: &Path, name: &str, args: &[&str]) -> String {
    let output = Command::new(example(name))
        .args(args)
        .current_dir(at)
        .output()
        .expect("the example runs");
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    assert!(output.status.success(), "{name} {args:?}:\n{out}\n{err}");
    out.into_owned()
}

#[test]
fn from_a_data_set_of_ones_own_to_fine_tuning_and_prediction() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut args = vec!["discs"];
    args.extend(SMALL);
    let told = run(at, "custom_dataset", &args);
    assert!(told.contains("mask"), "COCO's numbers: {told}");

    // Other classes than the discs': the class layers start anew, the rest is kept.
    let spec = ShapesSpec {
        train: 4,
        val: 2,
        ..ShapesSpec::default()
    };
    render(&at.join("shapes"), &spec).expect("a data set");
    let start = "discs/best.safetensors";
    let args = ["shapes", "tuned", "train.steps=2"];
    let told = run(at, "finetune_coco", &[&[start], &args[..]].concat());
    assert!(told.contains("step 2: loss"), "{told}");
    assert!(told.contains("tuned/best.safetensors"), "{told}");

    let photo = "shapes/val/000000.png";
    run(
        at,
        "predict",
        &["tuned/best.safetensors", photo, "found.png"],
    );
    let [drawn, photo] = ["found.png", photo].map(|name| image::open(at.join(name)));
    let [drawn, photo] = [drawn, photo].map(|image| image.expect("a picture"));
    assert_eq!(
        (drawn.width(), drawn.height()),
        (photo.width(), photo.height())
    );
}

/// Code that a reader copies from the documents is code that these tests, or doctests, have run.
#[test]
fn code_in_the_documents_is_part_of_what_runs() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let plain = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| {
            let line = line.trim();
            line.strip_prefix("//!").unwrap_or(line).trim().to_string()
        });
        // The front page hides what makes its weights.
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("# "))
            .collect()
    };
    let sources = [
        "core/examples/predict.rs",
        "core/examples/finetune_coco.rs",
        "core/examples/custom_dataset.rs",
        "core/src/lib.rs",
    ];
    let sources: Vec<Vec<String>> = sources.iter().map(|path| plain(&read(path))).collect();
    let mut blocks = 0;
    for path in ["README.md", "core/README.md", "docs/library.md"] {
        let text = read(path);
        for block in text.split("```rust\n").skip(1) {
            let code = plain(block.split("```").next().unwrap_or_default());
            let runs = sources
                .iter()
                .any(|source| source.windows(code.len()).any(|lines| lines == code));
            assert!(runs, "{path}: no example has\n{}", code.join("\n"));
            blocks += 1;
        }
    }
    assert!(blocks >= 4, "{blocks} blocks of code");
}
