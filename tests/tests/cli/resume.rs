//! Resuming runs that were killed or stopped, or whose checkpoints are damaged.

use crate::evidence::records;
use crate::{cli, cli_error, cli_ok, line_count, render_shapes, shown, train_args, wait_until};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STEPS: usize = 12;

fn arguments(out: &str) -> Vec<String> {
    let mut args: Vec<String> = train_args().into_iter().map(String::from).collect();
    args.extend([
        format!("--out={out}"),
        format!("--set=train.steps={STEPS}"),
        "--set=train.checkpoint_every=3".into(),
        "--set=train.replicas=2".into(),
        "--set=train.ema=0.9".into(),
        // Augmentation is a function of the seed and of the position of the image in the run.
        "--set=augment.min_sizes=[96, 112, 128]".into(),
        "--set=augment.photometric=0.5".into(),
        "--set=augment.copy_paste=0.5".into(),
        "--set=data.buckets=3".into(),
    ]);
    args
}

/// The losses of every step as text; equal text means equal bits.
fn losses(run: &Path) -> Vec<String> {
    records(run, "step")
        .iter()
        .map(|line| {
            let keys = ["step", "loss_classifier", "loss_box_reg", "loss_mask"];
            let more = ["loss_objectness", "loss_rpn_box_reg", "lr", "grad_norm"];
            let values = keys.iter().chain(&more).map(|key| line[key].to_string());
            values.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// The data of a weight file after its header.
pub fn tensors(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).expect("weights");
    let header = u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    bytes[8 + header..].to_vec()
}

/// Kills a training run `delay` after its log has `lines` lines, but not before its first checkpoint.
///
/// The place is counted in lines because the speed of the machine differs between two runs beside other tests.
fn kill_after(at: &Path, out: &str, lines: usize, delay: Duration) {
    let mut child = Command::new(crate::binary())
        .args(arguments(out))
        .arg("--set=train.eval_every=4")
        .current_dir(at)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let first = at.join(out).join("checkpoints/00000003");
    let log = at.join(out).join("metrics.jsonl");
    // It is pruned later.
    wait_until("the first checkpoint", || first.exists());
    wait_until("the log", || line_count(&log) >= lines);
    sleep(delay);
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
}

/// The records of the evaluations of a run, as text.
fn evaluations(run: &Path) -> Vec<String> {
    let mut all = records(run, "eval");
    for record in &mut all {
        record.as_object_mut().expect("an object").remove("seconds");
    }
    all.iter().map(ToString::to_string).collect()
}

/// Kills at random places of a run with evaluations and checkpoints: during a step, an evaluation or a write.
#[test]
fn a_killed_run_resumes_bit_equal() {
    const KILLS: usize = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 5, 3);
    let args = arguments("whole");
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.push("--set=train.eval_every=4");
    let started = Instant::now();
    cli_ok(at, &args);
    let total = line_count(&at.join("whole/metrics.jsonl"));
    let line_time = started.elapsed() / total as u32;
    let wanted = (losses(&at.join("whole")), evaluations(&at.join("whole")));
    assert_eq!((wanted.0.len(), wanted.1.len()), (STEPS, 3));
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let mut state = since.as_nanos() as u64 | 1;
    let mut cut = 0;
    for attempt in 0..KILLS {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = total as f64 * (state >> 11) as f64 / (1u64 << 53) as f64;
        let (lines, delay) = (place as usize, line_time.mul_f64(place.fract()));
        let out = format!("killed{attempt}");
        kill_after(at, &out, lines, delay);
        // Its last line may be cut.
        let log = std::fs::read_to_string(at.join(&out).join("metrics.jsonl")).expect("a log");
        cut += usize::from(log.matches("\"eval\"").count() < wanted.1.len());
        cli_ok(at, &["train", "--backend=cpu", "--resume", &out]);
        let found = (losses(&at.join(&out)), evaluations(&at.join(&out)));
        assert_eq!(found, wanted, "killed {delay:?} after line {lines}");
        for file in [
            "best.safetensors",
            "last.safetensors",
            "checkpoints/00000012/optimizer.safetensors",
        ] {
            let [found, wanted] = [&out, "whole"].map(|run| tensors(&at.join(run).join(file)));
            assert!(
                found == wanted,
                "{out}: {file} differs, killed {delay:?} after line {lines}"
            );
        }
    }
    println!("{KILLS} of {KILLS} runs resumed bit-equal, {cut} of them killed before their end");
    assert!(cut >= KILLS / 2, "only {cut} were killed before their end");
}

#[test]
fn a_damaged_checkpoint_is_reported_and_the_previous_one_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let args = arguments("run");
    cli_ok(at, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let checkpoints = at.join("run/checkpoints");
    let weights = |step: &str| checkpoints.join(step).join("weights.safetensors");
    let damage = |step: &str| {
        let mut bytes = std::fs::read(weights(step)).expect("weights");
        let place = bytes.len() / 2;
        bytes[place] ^= 1;
        std::fs::write(weights(step), bytes).expect("weights");
    };
    assert!(!weights("00000006").exists(), "two are kept");
    damage("00000012");
    let resume = ["train", "--backend=cpu", "--resume=run"];
    let output = cli(at, &resume);
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    let message = "00000012: weights.safetensors is damaged (checksum)";
    assert!(
        text.contains(message) && text.contains("00000009"),
        "{text}"
    );
    assert_eq!(losses(&at.join("run")).len(), STEPS);

    damage("00000012");
    damage("00000009");
    let error = cli_error(at, &resume);
    assert!(error.contains("no whole checkpoint"), "{error}");
    let error = cli_error(at, &["train", "--backend=cpu", "--resume=nowhere"]);
    assert!(error.contains("nowhere"), "{error}");
}

/// A finished run can be extended; the metrics of the averaged weights are saved.
#[test]
fn a_finished_run_can_be_extended() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let args = arguments("run");
    cli_ok(at, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let before = losses(&at.join("run"));
    let more = [
        "train",
        "--backend=cpu",
        "--resume=run",
        "--set=train.steps=14",
    ];
    cli_ok(at, &more);
    let after = losses(&at.join("run"));
    assert_eq!(after.len(), 14);
    assert_eq!(after[..12], before);
    let [raw, averaged] = [
        "checkpoints/00000014/weights.safetensors",
        "last.safetensors",
    ]
    .map(|file| tensors(&at.join("run").join(file)));
    assert!(raw != averaged, "train.ema changes what is saved");

    // Incompatible settings are refused and change no file.
    let settings = || std::fs::read_to_string(at.join("run/args.toml")).expect("settings");
    let before = settings();
    for (set, wanted) in [
        ("--set=train.seed=5", "train.seed = 0"),
        ("--set=model.fpn_channels=24", "checkpoints/00000014"),
    ] {
        let error = cli_error(at, &["train", "--backend=cpu", "--resume=run", set]);
        assert!(error.contains(wanted), "{error}");
        assert_eq!(settings(), before, "after {set}");
    }
    let fewer = [
        "train",
        "--backend=cpu",
        "--resume=run",
        "--set=train.steps=15",
        "--set=train.batch_size=1",
        "--set=train.replicas=1",
    ];
    let text = shown(&cli(at, &fewer));
    assert!(text.contains("used twice or not at all"), "{text}");
}

/// Ctrl-C saves a checkpoint and ends the run, and so does SIGTERM.
#[cfg(unix)]
#[test]
fn a_signal_saves_a_checkpoint() {
    // As a shell reports a process that the signal ended.
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        saves_after(signal, status);
    }
}

#[cfg(unix)]
fn saves_after(signal: &str, status: i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut args = arguments("run");
    args.push("--set=train.steps=100000".into());
    args.push("--set=train.checkpoint_every=0".into());
    let child = Command::new(crate::binary())
        .args(&args)
        .current_dir(at)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let log = at.join("run/metrics.jsonl");
    let started = Instant::now();
    while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 2 {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no step in two minutes"
        );
        sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    let kill = Command::new("kill").args([signal, &pid]).status();
    assert!(kill.expect("kill").success());
    let output = child.wait_with_output().expect("its end");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{signal}: {text}");
    assert!(
        text.contains("resume:   mrcnn-cli train --resume run"),
        "{text}"
    );
    let steps = losses(&at.join("run")).len();
    let checkpoint = at.join(format!("run/checkpoints/{steps:08}/manifest.json"));
    assert!(checkpoint.is_file(), "{} is missing", checkpoint.display());
}
