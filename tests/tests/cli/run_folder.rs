//! The run folder: who may write to it, and what happens when images become unreadable.
#![cfg(unix)]

use crate::evidence::records;
use crate::{cli, cli_error, cli_ok, line_count, render_shapes, shown, train_args, wait_until};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn start(at: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(crate::binary());
    command.args(train_args()).arg("--out=run").args(more);
    command
        .current_dir(at)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().expect("a process")
}

fn wait_for_steps(at: &Path, count: usize) {
    let log = at.join("run/metrics.jsonl");
    wait_until("steps", || line_count(&log) >= count);
}

/// A requeued job must not write to the folder of one that is still running.
#[test]
fn a_second_process_is_refused_and_the_first_unharmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut first = start(
        at,
        &["--set=train.steps=100000", "--set=train.checkpoint_every=2"],
    );
    wait_for_steps(at, 3);
    let error = cli_error(at, &["train", "--backend=cpu", "--resume=run"]);
    let holder = format!("process {}", first.id());
    assert!(
        error.contains(&holder) && error.contains("using this run folder"),
        "{error}"
    );
    // A new run gets a folder of its own.
    let mut train = train_args();
    train.push("--out=run");
    cli_ok(at, &train);
    assert!(at.join("run-2/best.safetensors").is_file());
    let before = records(&at.join("run"), "step").len();
    wait_for_steps(at, before + 2);
    first.kill().expect("SIGKILL");
    first.wait().expect("its end");
    let steps: Vec<String> = records(&at.join("run"), "step")
        .iter()
        .map(|s| s["step"].to_string())
        .collect();
    let wanted: Vec<String> = (1..=steps.len()).map(|step| step.to_string()).collect();
    assert_eq!(steps, wanted, "each step once");
    // The lock ends with its process.
    let more = format!("--set=train.steps={}", steps.len() + 1);
    cli_ok(at, &["train", "--backend=cpu", "--resume=run", &more]);
}

/// A disk that fails for a moment costs no step, because the read is retried. If it keeps failing, a checkpoint is
/// written before the run ends.
#[test]
fn images_that_go_away_leave_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let (images, away) = (at.join("shapes/train"), at.join("shapes/away"));
    let run = start(
        at,
        &[
            "--set=train.steps=100000",
            "--set=train.checkpoint_every=0",
            "--set=data.prefetch=1",
        ],
    );
    wait_for_steps(at, 3);
    std::fs::rename(&images, &away).expect("a rename");
    let output = run.wait_with_output().expect("its end");
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("shapes/train"), "{text}");
    let done = records(&at.join("run"), "step").len();
    let checkpoint = at.join(format!("run/checkpoints/{done:08}/manifest.json"));
    assert!(
        checkpoint.is_file(),
        "{} is missing: {text}",
        checkpoint.display()
    );
    std::fs::rename(&away, &images).expect("a rename");
    let more = format!("--set=train.steps={}", done + 2);
    cli_ok(at, &["train", "--backend=cpu", "--resume=run", &more]);
    assert_eq!(records(&at.join("run"), "step").len(), done + 2);
}

#[test]
fn a_lost_args_toml_and_a_cut_log_do_not_end_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut train = train_args();
    train.push("--out=run");
    cli_ok(at, &train);
    // As a power cut leaves them.
    std::fs::write(at.join("run/args.toml"), "").expect("a file");
    let log = at.join("run/metrics.jsonl");
    let text = std::fs::read_to_string(&log).expect("a log");
    std::fs::write(&log, &text[..text.len() - 20]).expect("a log");
    let output = cli(
        at,
        &[
            "train",
            "--backend=cpu",
            "--resume=run",
            "--set=train.steps=4",
        ],
    );
    assert!(output.status.success(), "{}", shown(&output));
    let settings = std::fs::read_to_string(at.join("run/args.toml")).expect("settings");
    assert!(settings.contains("steps = 4"), "{settings}");
}

#[test]
fn settings_without_sense_are_refused_before_anything_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (set, wanted) in [
        (
            "model.rpn.post_nms_train=9223372036854775807",
            "must be from 1 to 100000",
        ),
        ("data.workers=9223372036854775807", "must be from 0 to 1024"),
        (
            "train.batch_size=9223372036854775807",
            "must be from 1 to 65536",
        ),
        ("image.std=[0,0,0]", "each must be above 0"),
        ("model.norm_eps=nan", "must be from 0 to 1"),
    ] {
        let set = format!("--set={set}");
        let error = cli_error(at, &["train", "--config=quickstart", "--data=shapes", &set]);
        assert!(error.contains(wanted), "{error}");
    }
    let text = cli_ok(at, &["config", "explain", "train.momentum"]);
    assert!(
        text.contains("from 0 and below 1") && text.contains("default: 0.9"),
        "{text}"
    );
    let error = cli_error(at, &["config", "explain", "train.momentun"]);
    assert!(error.contains("the closest is train.momentum"), "{error}");
}
