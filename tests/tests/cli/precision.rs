//! Training in f16: overflows are skipped, and a run that stops during an overflow resumes exactly.

use crate::evidence::records;
use crate::resume::tensors;
use crate::{cli_error, cli_ok, render_shapes, train_args};
use serde_json::Value;
use std::path::Path;

/// A scale with which some of the first steps overflow.
const HUGE: &str = "--set=train.loss_scale=4194304";

fn train(at: &Path, more: &[&str]) {
    let mut args = train_args();
    args.extend(["--precision=f16", "--set=train.checkpoint_every=1"]);
    args.extend(["--set=train.keep_checkpoints=100", "--set=train.ema=0.5"]);
    args.extend(more);
    cli_ok(at, &args);
}

/// The steps of the log without times and memory.
fn steps(run: &Path) -> Vec<Value> {
    let mut steps = records(run, "step");
    let measured = [
        "images_per_second",
        "data_wait",
        "seconds",
        "memory_mb",
        "exchange",
    ];
    for step in &mut steps {
        let step = step.as_object_mut().expect("an object");
        step.retain(|key, _| !measured.contains(&key.as_str()));
    }
    steps
}

#[test]
fn an_overflow_is_skipped_and_resumed_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    train(at, &["--out=whole", HUGE, "--set=train.steps=12"]);
    let wanted = steps(&at.join("whole"));
    assert_eq!(wanted.len(), 12);
    let is_skipped = |step: &Value| step["skipped"] == true;
    let skipped = wanted.iter().filter(|step| is_skipped(step)).count();
    println!("{skipped} of 12 steps skipped");
    assert!((2..12).contains(&skipped), "{skipped} of 12");
    for pair in wanted.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|s| s["loss_scale"].as_f64().expect("one"));
        let by = if is_skipped(&pair[0]) { 0.5 } else { 1.0 };
        assert_eq!(after, before * by, "{} {}", pair[0], pair[1]);
    }
    // The first step overflowed, so weights, average and optimizer are unchanged.
    assert!(is_skipped(&wanted[0]));
    let checkpoint = |step: usize| at.join(format!("whole/checkpoints/{step:08}"));
    train(
        at,
        &[
            "--out=still",
            "--set=train.learning_rate=0",
            "--set=train.steps=1",
        ],
    );
    let still = tensors(&at.join("still/checkpoints/00000001/weights.safetensors"));
    for name in ["weights", "ema"] {
        let found = tensors(&checkpoint(1).join(format!("{name}.safetensors")));
        assert!(found == still, "{name}");
    }
    assert!(tensors(&checkpoint(1).join("optimizer.safetensors")).is_empty());

    // From a checkpoint between two overflows, and from one after them.
    for from in [1, skipped + 1] {
        let out = at.join(format!("from{from}"));
        copy(&at.join("whole"), &out);
        for later in from + 1..=12 {
            std::fs::remove_dir_all(out.join(format!("checkpoints/{later:08}"))).expect("one");
        }
        let resume = format!("--resume={}", out.display());
        cli_ok(at, &["train", &resume, "--backend=cpu"]);
        assert_eq!(steps(&out), wanted, "from step {from}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_precision_that_always_overflows_ends_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut args = train_args();
    let steps = ["--set=train.steps=40", "--set=train.loss_scale=1e38"];
    args.extend(["--out=run", "--precision=f16"]);
    args.extend(steps);
    let error = cli_error(at, &args);
    assert!(
        error.contains("step 20: 20 consecutive steps overflowed in f16"),
        "{error}"
    );
    assert!(error.contains("--precision bf16 or f32"), "{error}");
    let dump = at.join("run/not_finite_00000020/batch.json");
    assert!(dump.is_file(), "{error}");
}
