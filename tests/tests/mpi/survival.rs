//! Ranks that fail or hang, and resuming with another number of ranks.

use crate::{
    binary, cli, cli_ok, distance, loss_difference, mpirun, records, render_shapes, shown, train,
};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Starts 2 ranks that train without end, and waits until `lines` steps are done.
fn endless(binary: &Path, at: &Path, out: &str, more: &[&str], lines: usize) -> Child {
    let out_arg = format!("--out={out}");
    let endless = [
        "--set=train.steps=100000",
        "--set=train.checkpoint_every=3",
        &out_arg,
    ];
    let child = mpirun()
        .args(["-np", "2"])
        .arg(binary)
        .args(train(&[&endless[..], more].concat()))
        .current_dir(at)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun");
    let log = at.join(out).join("metrics.jsonl");
    let count = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    let started = Instant::now();
    while count() < lines {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no {lines} steps"
        );
        sleep(Duration::from_millis(10));
    }
    child
}

/// The process of a rank: a child of mpirun with that rank in its environment.
fn process_of(rank: usize, mpirun: u32) -> u32 {
    let children = Command::new("pgrep")
        .args(["-P", &mpirun.to_string()])
        .output();
    let children = String::from_utf8(children.expect("pgrep").stdout).expect("numbers");
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is_rank = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&b| b == 0)
            .any(|line| line == wanted.as_bytes())
    };
    let mut children = children.lines().filter_map(|line| line.parse().ok());
    children.find(is_rank).expect("a rank")
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.expect("kill").success());
}

fn wait(child: Child, limit: Duration) -> (bool, String) {
    let started = Instant::now();
    let pid = child.id();
    let ended = std::thread::spawn(move || child.wait_with_output().expect("its end"));
    while !ended.is_finished() {
        if started.elapsed() > limit {
            signal("-KILL", pid);
            panic!("mpirun has not ended in {limit:?}");
        }
        sleep(Duration::from_millis(20));
    }
    let output = ended.join().expect("its output");
    (output.status.success(), shown(&output))
}

#[test]
fn a_killed_rank_ends_the_job_and_the_run_can_resume() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 7, 1);
    for victim in [0, 1] {
        let out = format!("run{victim}");
        let child = endless(&binary, at, &out, &[], 8);
        signal("-KILL", process_of(victim, child.id()));
        let (success, text) = wait(child, Duration::from_secs(60));
        assert!(!success, "{text}");
        let message = format!("process rank {victim} with PID");
        assert!(
            text.contains(&message) && text.contains("signal 9"),
            "{text}"
        );
        // Its checkpoint is complete: the run resumes with one process and with three.
        for (ranks, steps) in [(1, 10), (3, 12)] {
            let resume = format!("--resume={out}");
            let (from, to) = (records(&at.join(&out), "step").len(), steps.max(10));
            let last = format!("--set=train.steps={}", from + to);
            cli_ok(
                &binary,
                ranks,
                at,
                &["train", "--backend=cpu", &resume, &last],
            );
        }
    }
}

/// A run started with 2 ranks and resumed with 1 or 4 equals a run of 1 process.
#[test]
fn another_number_of_ranks_resumes_with_the_same_images() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 7, 1);
    // A schedule that does not depend on the last step, because the runs end at different steps.
    let settings = ["--set=train.ema=0.9", "--set=train.schedule=multistep"];
    let start = |ranks: usize, out: &str, steps: usize| {
        let (out, steps) = (format!("--out={out}"), format!("--set=train.steps={steps}"));
        let args = train(&[&settings[..], &[&out, &steps]].concat());
        cli_ok(&binary, ranks, at, &args);
    };
    start(1, "whole", 18);
    start(2, "parts", 6);
    for (ranks, steps) in [(1, 12), (4, 18)] {
        let steps = format!("--set=train.steps={steps}");
        let args = ["train", "--backend=cpu", "--resume=parts", &steps];
        cli_ok(&binary, ranks, at, &args);
    }
    let [whole, parts] = ["whole", "parts"].map(|run| at.join(run));
    let losses = loss_difference(&whole, &parts);
    assert!(losses <= 1e-5, "losses differ by {losses}");
    // Momenta are sums of gradients, so a ReLU unit that activates a step earlier affects them: 1.1e-3 was
    // measured with the CPU's own convolutions.
    for (file, limit) in [
        ("last.safetensors", 1e-5),
        ("checkpoints/00000018/weights.safetensors", 1e-5),
        ("checkpoints/00000018/optimizer.safetensors", 2e-3),
    ] {
        let difference = distance(&whole.join(file), &parts.join(file));
        assert!(difference <= limit, "{file} differs by {difference}");
    }
}

#[test]
fn a_rank_that_hangs_is_reported() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 7, 1);
    let child = endless(&binary, at, "run", &["--comm-timeout=2"], 4);
    let stopped = process_of(1, child.id());
    signal("-STOP", stopped);
    let (success, text) = wait(child, Duration::from_secs(90));
    assert!(!success, "{text}");
    // mpirun wakes the stopped rank to end it, so only its first line counts.
    let message = text.split("-----").next().unwrap_or_default();
    assert!(message.contains("rank 0 of 2 ("), "{text}");
    assert!(message.contains("for the other ranks, at step"), "{text}");
    assert!(!message.contains("rank 1 of 2 ("), "{text}");
}

/// SIGINT to one rank stops all ranks after the same step, with a checkpoint.
#[test]
fn an_interrupt_at_one_rank_saves_for_all() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 7, 1);
    let child = endless(&binary, at, "run", &[], 3);
    signal("-INT", process_of(1, child.id()));
    let (success, text) = wait(child, Duration::from_secs(60));
    assert!(
        !success,
        "a run that a signal ended has its exit code: {text}"
    );
    assert!(
        text.contains("resume:   mrcnn-cli train --resume run"),
        "{text}"
    );
    let steps = records(&at.join("run"), "step").len();
    let manifest = at.join(format!("run/checkpoints/{steps:08}/manifest.json"));
    assert!(manifest.is_file(), "{} is missing", manifest.display());
}

/// A failing rank prints the reason, and the others do not wait for it.
#[test]
fn an_error_of_one_rank_ends_all() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 7, 1);
    // Detected during training, because images are not checked before.
    let image = std::fs::read_dir(at.join("shapes/train"))
        .expect("images")
        .next();
    let image = image.expect("an image").expect("an image").path();
    std::fs::write(&image, b"not an image").expect("a file");
    let args = train(&[
        "--out=run",
        "--set=data.check_images=false",
        "--set=train.steps=20",
    ]);
    let output = cli(&binary, 2, at, &args);
    let text = shown(&output);
    let name = image
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("error: rank ") && text.contains(&name),
        "{text}"
    );
    // With `skip` the image is left out on any rank, and the ranks continue together, as one process does.
    let skip = [
        "--set=data.check_images=false",
        "--set=data.on_problem=skip",
        "--set=train.steps=8",
    ];
    for (ranks, out) in [(1, "--out=one"), (3, "--out=three")] {
        cli_ok(&binary, ranks, at, &train(&[&skip[..], &[out]].concat()));
    }
    let losses = loss_difference(&at.join("one"), &at.join("three"));
    assert!(losses <= 1e-5, "losses differ by {losses}");
}
