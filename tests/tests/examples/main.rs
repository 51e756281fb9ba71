//! The examples of `mrcnn-core`, run as programs; `batch_server` has its own tests.

use mrcnn_core::data::shapes::{ShapesSpec, render};
use mrcnn_tests::{example, root};
use std::path::Path;
use std::process::Command;

/// Overrides for a small network.
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
    "train.val_images=2",
];

/// Runs an example in a folder and returns its output.
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
fn custom_dataset_fine_tuning_and_prediction_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut args = vec!["discs"];
    args.extend(SMALL);
    let output = run(at, "custom_dataset", &args);
    assert!(output.contains("mask"), "COCO's numbers: {output}");

    // Other classes than those of the discs: the class layers are initialized, the rest is kept.
    let spec = ShapesSpec {
        train: 4,
        val: 2,
        ..ShapesSpec::default()
    };
    render(&at.join("shapes"), &spec).expect("a dataset");
    let start = "discs/best.safetensors";
    let args = ["shapes", "tuned", "train.steps=2"];
    let output = run(at, "finetune_coco", &[&[start], &args[..]].concat());
    assert!(output.contains("step 2: loss"), "{output}");
    assert!(output.contains("tuned/best.safetensors"), "{output}");

    let photo = "shapes/val/000000.png";
    run(
        at,
        "predict",
        &["tuned/best.safetensors", photo, "prediction.png"],
    );
    let [drawn, photo] = ["prediction.png", photo].map(|name| image::open(at.join(name)));
    let [drawn, photo] = [drawn, photo].map(|image| image.expect("an image"));
    assert_eq!(
        (drawn.width(), drawn.height()),
        (photo.width(), photo.height())
    );
}

/// Code in the documents must be part of the examples or doctests, which are run.
#[test]
fn code_in_the_documents_is_run_by_tests() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let plain = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| {
            let line = line.trim();
            line.strip_prefix("//!").unwrap_or(line).trim().to_string()
        });
        // The crate documentation hides the code that creates its weights.
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
            let is_run = sources
                .iter()
                .any(|source| source.windows(code.len()).any(|lines| lines == code));
            assert!(is_run, "{path}: no example contains\n{}", code.join("\n"));
            blocks += 1;
        }
    }
    assert!(blocks >= 4, "{blocks} blocks of code");
}
