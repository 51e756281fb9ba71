//! Fault injection in the manner of SQLite: every write of a run fails once. After each fault the run is resumed, and
//! must end bit-equal to one without faults, or report in one error what to do.
//!
//! `disk.c` is compiled here and loaded into the program with LD_PRELOAD, so the program is the released one.
//! `MRCNN_FAULT_STRIDE=1` tests every point (`.ci/fault`); the default tests a part of them.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Faults that are injected.
const MODES: [&str; 4] = ["eio", "enospc", "kill", "power"];

/// Stride between tested points, unless `MRCNN_FAULT_STRIDE` sets it.
const STRIDE: usize = 37;

const STEPS: &str = "6";

fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps");
    let binary = folder.join("mrcnn-cli");
    assert!(
        binary.is_file(),
        "{} is missing: run `cargo test --workspace`",
        binary.display()
    );
    binary
}

/// Compiles the library; `None` without a C compiler.
fn library(folder: &Path) -> Option<PathBuf> {
    let out = folder.join("disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fault/disk.c");
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let status = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&out)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .status();
    match status {
        Ok(status) => {
            assert!(status.success(), "disk.c does not compile");
            Some(out)
        }
        Err(error) => {
            mrcnn_test_support::skip(&format!("fault injection: no C compiler ({error})"));
            None
        }
    }
}

/// A short run with two evaluations and a checkpoint at every other step, and what it writes by default.
fn train(out: &Path) -> Vec<String> {
    let mut args: Vec<String> = [
        "train",
        "--config=quickstart",
        "--data=shapes",
        "--backend=cpu",
        "--set=model.width=4",
        "--set=model.fpn_channels=8",
        "--set=model.norm_groups=2",
        "--set=model.box_head.hidden=8",
        "--set=model.mask_head.convs=[8]",
        "--set=model.mask_head.hidden=8",
        "--set=model.rpn.pre_nms_test=20",
        "--set=model.rpn.post_nms_test=10",
        "--set=image.min_size=64",
        "--set=image.max_size=96",
        "--set=train.batch_size=1",
        "--set=train.replicas=1",
        "--set=train.val_images=1",
        "--set=train.val_loss_images=0",
        "--set=train.checkpoint_every=2",
        "--set=train.eval_every=3",
        "--set=log.report=false",
        "--set=train.ema=0.9",
    ]
    .map(String::from)
    .to_vec();
    args.push(format!("--set=train.steps={STEPS}"));
    args.push(format!("--out={}", out.display()));
    args
}

struct Disk {
    at: PathBuf,
    library: PathBuf,
}

impl Disk {
    /// Runs the program with a fault below `root`.
    fn run(&self, args: &[String], root: &Path, mode: &str, point: usize) -> Output {
        let mut command = Command::new(binary());
        command
            .args(args)
            .current_dir(&self.at)
            .env("RAYON_NUM_THREADS", "1")
            .env("LD_PRELOAD", &self.library)
            .env("FAULT_ROOT", root)
            .env("FAULT_MODE", mode)
            .env("FAULT_AT", point.to_string())
            .env("FAULT_COUNT", self.at.join("count"));
        command.output().expect("a process")
    }

    fn plain(&self, args: &[String]) -> Output {
        let mut command = Command::new(binary());
        let command = command.args(args).env("RAYON_NUM_THREADS", "1");
        command.current_dir(&self.at).output().expect("a process")
    }
}

fn shown(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    format!("{out}\n{err}")
}

/// The result of a run: its losses as written, its weights, its last checkpoint.
fn outcome(run: &Path) -> Result<Vec<Vec<u8>>, String> {
    let read = |name: &str| {
        let path = run.join(name);
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let tensors = |name: &str| {
        let bytes = read(name)?;
        let header = bytes
            .first_chunk()
            .map_or(0, |size| u64::from_le_bytes(*size)) as usize;
        Ok::<_, String>(bytes.get(8 + header..).unwrap_or_default().to_vec())
    };
    let log = String::from_utf8_lossy(&read("metrics.jsonl")?).into_owned();
    let mut losses = String::new();
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        for key in ["kind", "step", "loss", "grad_norm", "mask"] {
            losses.push_str(&format!("{} ", record[key]));
        }
        losses.push('\n');
    }
    Ok(vec![
        losses.into_bytes(),
        tensors("best.safetensors")?,
        tensors("last.safetensors")?,
        tensors("checkpoints/00000006/weights.safetensors")?,
        tensors("checkpoints/00000006/optimizer.safetensors")?,
        tensors("checkpoints/00000006/ema.safetensors")?,
    ])
}

/// Injects one fault, then resumes: bit-equal, or one error with what to do.
fn case(disk: &Disk, mode: &str, point: usize, wanted: &[Vec<u8>]) -> Result<bool, String> {
    let root = disk.at.join(format!("{mode}-{point}"));
    let run = root.join("run");
    std::fs::create_dir(&root).map_err(|error| error.to_string())?;
    let first = disk.run(&train(&run), &root, mode, point);
    let text = shown(&first);
    let is_error = first.status.code() == Some(1) && text.matches("error: ").count() == 1;
    let ended = match mode {
        // Derived files and logs may be lost without an error only if they can be recreated.
        "eio" | "enospc" => is_error || first.status.success(),
        _ => first.status.code().is_none() || first.status.success(),
    };
    if !ended || text.contains("panicked") {
        return Err(format!("the run: {:?}: {text}", first.status));
    }
    let resume = ["train", "--backend=cpu", "--resume"].map(String::from);
    let resume = [&resume[..], &[run.display().to_string()]].concat();
    let second = disk.plain(&resume);
    let text = shown(&second);
    let is_equal = match second.status.code() {
        Some(0) => {
            let found = outcome(&run)?;
            if found != wanted {
                let differs: Vec<bool> = found.iter().zip(wanted).map(|(a, b)| a != b).collect();
                return Err(format!("resumed, but differs: {differs:?}\n{text}"));
            }
            true
        }
        // Before the first checkpoint there is nothing to resume from.
        Some(1) if text.matches("error: ").count() == 1 && !text.contains("panicked") => {
            let advice = [
                "start again",
                "no such run folder",
                "--config",
                "check the path",
            ];
            if !advice.iter().any(|advice| text.contains(advice)) {
                return Err(format!("no advice: {text}"));
            }
            let checkpoints = run.join("checkpoints");
            let whole = checkpoints.read_dir().map_or(0, |all| {
                let manifests = all
                    .flatten()
                    .filter(|entry| entry.path().join("manifest.json").is_file());
                manifests.count()
            });
            if whole > 0 && mode != "power" {
                return Err(format!(
                    "there is a checkpoint, but it was not used: {text}"
                ));
            }
            false
        }
        _ => return Err(format!("the resume: {:?}: {text}", second.status)),
    };
    std::fs::remove_dir_all(&root).map_err(|error| error.to_string())?;
    Ok(is_equal)
}

#[test]
fn every_fault_of_the_disk_is_survived() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(library) = library(folder.path()) else {
        return;
    };
    let at = folder.path().canonicalize().expect("a path");
    let disk = Disk { at, library };
    let shapes = [
        "dataset",
        "shapes",
        "--out=shapes",
        "--train=3",
        "--val=2",
        "--size",
        "64",
        "64",
    ];
    let rendered = disk.plain(&shapes.map(String::from));
    assert!(rendered.status.success(), "{}", shown(&rendered));
    let root = disk.at.join("whole");
    std::fs::create_dir(&root).expect("a folder");
    let whole = disk.run(&train(&root.join("run")), &root, "count", 0);
    assert!(whole.status.success(), "{}", shown(&whole));
    let wanted = outcome(&root.join("run")).expect("a run");
    let count = std::fs::read_to_string(disk.at.join("count")).expect("a count");
    let points: usize = count.trim().parse().expect("a number");
    assert!(points > 100, "only {points} points: does LD_PRELOAD work?");

    let stride = std::env::var("MRCNN_FAULT_STRIDE")
        .ok()
        .and_then(|s| s.parse().ok());
    let stride: usize = stride.unwrap_or(STRIDE).max(1);
    let cases: Vec<(&str, usize)> = MODES
        .iter()
        .enumerate()
        // Each mode begins at another point.
        .flat_map(|(i, mode)| {
            (1 + i * stride / MODES.len()..=points)
                .step_by(stride)
                .map(move |p| (*mode, p))
        })
        .collect();
    let (next, equal) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((mode, point)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    match case(&disk, mode, *point, &wanted) {
                        Ok(is_equal) => {
                            equal.fetch_add(usize::from(is_equal), Ordering::SeqCst);
                        }

                        Err(reason) => failed
                            .lock()
                            .expect("a lock")
                            .push(format!("{mode} at {point}: {reason}")),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("a lock");
    println!(
        "{points} points of a {STEPS}-step run; {} cases (every {stride}th point, {} modes): {} resumed bit-equal, {} \
         reported what to do, {} failed",
        cases.len(),
        MODES.len(),
        equal.load(Ordering::SeqCst),
        cases.len() - equal.load(Ordering::SeqCst) - failed.len(),
        failed.len()
    );
    assert!(
        failed.is_empty(),
        "{} failures, the first: {}",
        failed.len(),
        failed[0]
    );
}
