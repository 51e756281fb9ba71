//! Signals: which ones save a checkpoint, which ones end the run, and the exit status.
#![cfg(unix)]

use crate::evidence::records;
use crate::{cli_ok, render_shapes, train_args, wait_until};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A run of many steps that writes no checkpoint by itself.
fn start(at: &Path, program: &[&str], more: &[&str]) -> Child {
    let binary = crate::binary();
    let mut words: Vec<&str> = program.to_vec();
    let binary = binary.to_string_lossy();
    words.push(&binary);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(train_args());
    command.args(["--out=run", "--set=train.steps=100000"]);
    command.args(["--set=train.checkpoint_every=0"]).args(more);
    command
        .current_dir(at)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("a process")
}

fn steps(at: &Path) -> usize {
    match at.join("run/metrics.jsonl").exists() {
        true => records(&at.join("run"), "step").len(),
        false => 0,
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let status = Command::new("kill").args([name, &pid]).status();
    assert!(status.expect("kill").success());
}

#[test]
fn ending_signals_save_and_have_their_exit_status() {
    for (name, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        render_shapes(at, 4, 1);
        // Tests under `nohup` inherit an ignored SIGHUP, which the program respects.
        let program: &[&str] = match cfg!(target_os = "linux") {
            true => &["env", "--default-signal=HUP"],
            false => &[],
        };
        let mut child = start(at, program, &[]);
        wait_until("a step", || steps(at) >= 2);
        signal(&child, name);
        let status = child.wait().expect("its end");
        assert_eq!(status.code(), Some(code), "{name}");
        let done = steps(at);
        let checkpoint = at.join(format!("run/checkpoints/{done:08}/manifest.json"));
        assert!(
            checkpoint.is_file(),
            "{name}: {} is missing",
            checkpoint.display()
        );
    }
}

/// `nohup` ignores SIGHUP; a run under it outlives its terminal.
#[test]
fn an_ignored_hangup_stays_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut child = start(at, &["nohup"], &[]);
    wait_until("a step", || steps(at) >= 2);
    signal(&child, "-HUP");
    let before = steps(at);
    wait_until("more steps", || steps(at) >= before + 3);
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("its end").code(), Some(143));
}

/// Slurm's `--signal=USR1@60`.
#[test]
fn usr1_saves_and_the_run_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut child = start(at, &[], &[]);
    wait_until("a step", || steps(at) >= 2);
    signal(&child, "-USR1");
    let saved = || {
        at.join("run/checkpoints")
            .read_dir()
            .is_ok_and(|mut all| all.next().is_some())
    };
    wait_until("a checkpoint", saved);
    let before = steps(at);
    wait_until("more steps", || steps(at) >= before + 2);
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    // It can be continued from there.
    cli_ok(
        at,
        &[
            "train",
            "--backend=cpu",
            "--resume=run",
            "--set=train.steps=12",
        ],
    );
}

/// SIGTERM during an evaluation: a scheduler kills after 30 s, and an evaluation may take minutes.
#[test]
fn an_evaluation_is_ended_between_its_batches() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 400);
    let mut child = start(
        at,
        &[],
        &["--eval-every=2", "--set=train.val_loss_images=0"],
    );
    // Written before the evaluation.
    wait_until("the checkpoint", || {
        at.join("run/checkpoints/00000002").is_dir()
    });
    sleep(Duration::from_millis(200));
    let sent = Instant::now();
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("its end").code(), Some(143));
    let took = sent.elapsed();
    assert!(
        !at.join("run/best.safetensors").exists(),
        "the evaluation was over after {took:?}"
    );
    assert!(records(&at.join("run"), "eval").is_empty());
    // The evaluation that is due is done first.
    cli_ok(
        at,
        &[
            "train",
            "--backend=cpu",
            "--resume=run",
            "--set=train.steps=3",
        ],
    );
    let evaluated: Vec<_> = records(&at.join("run"), "eval")
        .iter()
        .map(|e| e["step"].to_string())
        .collect();
    assert_eq!(evaluated, ["2", "3"]);
}
