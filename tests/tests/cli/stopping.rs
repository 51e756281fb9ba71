//! Runs that end early: by patience, or at a loss that is not finite.

use crate::evidence::{read, records};
use crate::{cli, cli_error, render_shapes, shown, train_args};
use serde_json::Value;

/// Without a better mask AP the run ends early with its report, and a resumed run continues to count.
#[test]
fn patience_ends_a_run_without_improvement() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut train = train_args();
    train.retain(|arg| !arg.contains("train.steps"));
    train.extend([
        "--out=run",
        "--eval-every=1",
        "--patience=3",
        "--set=train.steps=50",
    ]);
    train.extend(["--set=train.learning_rate=0", "--set=train.lr_batch=0"]);
    let output = cli(at, &train);
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    let message = "step 4: no better mask AP in 3 evaluations, stopping early";
    assert!(text.contains(message), "{text}");
    let run = at.join("run");
    assert_eq!(records(&run, "eval").len(), 4, "the first and three more");
    assert!(run.join("report.html").is_file());
    // The checkpoint is written before the evaluation, and this note after it.
    let evaluated = read(&run.join("checkpoints/00000004/evaluated.json"));
    assert!(evaluated.contains("\"stale\": 3"), "{evaluated}");
}

#[test]
fn a_loss_that_is_not_finite_reports_and_writes_its_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut train = train_args();
    train.extend([
        "--out=run",
        "--set=train.learning_rate=1e30",
        "--set=train.clip_norm=0",
    ]);
    train.push("--set=train.warmup_steps=0");
    let error = cli_error(at, &train);
    assert!(
        error.contains("step 2: the loss or its gradient is not finite"),
        "{error}"
    );
    let dump = at.join("run/not_finite_00000002");
    let listed: Vec<Value> = serde_json::from_str(&read(&dump.join("batch.json"))).expect("JSON");
    assert_eq!(listed.len(), 2);
    let ids: Vec<String> = listed
        .iter()
        .map(|entry| entry["image_id"].to_string())
        .collect();
    assert!(
        error.contains(&format!("images [{}]", ids.join(", "))),
        "{error}"
    );
    for entry in &listed {
        let id = &entry["image_id"];
        let image = image::open(dump.join(format!("{id}.png"))).expect("an image");
        let side = |key: &str| entry[key].as_u64().expect("a side") as u32;
        assert_eq!(
            (image.width(), image.height()),
            (side("width"), side("height"))
        );
        assert!(
            entry["file"]
                .as_str()
                .is_some_and(|file| at.join(file).is_file())
        );
        let boxes = entry["boxes"].as_array().expect("boxes");
        assert_eq!(
            boxes.len(),
            entry["labels"].as_array().expect("labels").len()
        );
    }
    let tensors = std::fs::read(dump.join("batch.safetensors")).expect("tensors");
    let tensors = safetensors::SafeTensors::deserialize(&tensors).expect("tensors");
    assert_eq!(
        tensors.tensor("images").expect("the images").shape()[..2],
        [2, 3]
    );
}
