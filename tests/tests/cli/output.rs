//! Output to a closed pipe, a full disk or a closed terminal: no command
//! panics, results are written anyway, and a training run continues.
#![cfg(target_os = "linux")]

use crate::video::{has_ffmpeg, render_clip};
use crate::{binary, cli_ok, render_shapes, shown, train_args};
use mrcnn_core::pretrained::sha256;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn full() -> Stdio {
    let file = File::options().write(true).open("/dev/full");
    file.expect("/dev/full").into()
}

/// A pipe whose reader has ended.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn run(at: &Path, args: &[String], out: Stdio, err: Stdio) -> Output {
    let mut command = Command::new(binary());
    command.args(args).current_dir(at).stdout(out).stderr(err);
    for (name, value) in [
        ("MRCNN_OFFLINE", "1"),
        ("MRCNN_CACHE", "cache"),
        ("MRCNN_MODELS", "models.toml"),
    ] {
        command.env(name, value);
    }
    // Without it, a Vulkan layer of Mesa prints an error of its own.
    command.env("XDG_RUNTIME_DIR", at);
    let child = command.spawn().expect("a process");
    child.wait_with_output().expect("its end")
}

/// A command, and the files and folders that it writes, in the order in which they are removed. The name of a file may
/// end in `*`, for any text.
type Case = (&'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    ("--help", &[]),
    ("--version", &[]),
    ("doctor", &[]),
    ("config explain", &[]),
    ("config explain train.steps", &[]),
    ("completions bash", &[]),
    ("man", &[]),
    ("models", &[]),
    ("models fetch tiny", &[]),
    ("models path tiny", &[]),
    ("models verify", &[]),
    ("dataset check shapes", &[]),
    ("dataset stats shapes --html=stats.html", &["stats.html"]),
    (
        "dataset shapes --out=more --train=2 --val=1",
        &["more/annotations/instances_val.json", "more"],
    ),
    (
        "dataset convert --from=yolo yolo --out=coco",
        &["coco/annotations/instances_val.json", "coco"],
    ),
    (
        "dataset preview shapes --count=1 --out=preview",
        &["preview/0000_*", "preview"],
    ),
    (
        "convert run/best.safetensors --out=c.safetensors",
        &["c.safetensors", "c.toml"],
    ),
    (
        "eval --weights=run/best.safetensors --data=shapes --backend=cpu",
        &[],
    ),
    (
        "predict shapes/val --weights=run/best.safetensors --backend=cpu --out=p --format=table",
        &["p/detections.json", "p"],
    ),
    (
        "predict shapes/val --weights=run/best.safetensors --backend=cpu --out=p --format=json",
        &["p/detections.json", "p"],
    ),
    (
        "benchmark inference --config=quickstart --backend=cpu --steps=1 --warmup=0",
        &[],
    ),
    (
        "benchmark train --config=quickstart --backend=cpu --steps=1 --warmup=0",
        &[],
    ),
    (
        "benchmark kernels --config=quickstart --backend=cpu --steps=1 --warmup=0 --only=NMS",
        &[],
    ),
];

/// Commands without a case: `train` has a test of its own, and `quickstart`, which prints with the same functions,
/// renders 2,400 images in each of four runs.
const COMMANDS_WITHOUT_CASE: [&str; 2] = ["quickstart", "train"];

#[test]
fn every_command_has_a_case() {
    for words in crate::options::commands(&[]) {
        let command = words.join(" ");
        let start = format!("{command} ");
        let is_case = |(line, _): &Case| format!("{line} ").starts_with(&start);
        let is_other = COMMANDS_WITHOUT_CASE.contains(&command.as_str());
        assert!(
            is_other || CASES.iter().any(is_case),
            "{command}: add a case to CASES"
        );
    }
}

/// Runs a command with each stream broken in each way. After each run, `check_and_remove` checks and removes what it
/// has written.
#[track_caller]
fn survives(at: &Path, args: &[&str], check_and_remove: &dyn Fn()) {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let check = |what: &str, output: &Output, code: i32| {
        let text = shown(output);
        assert_eq!(output.status.code(), Some(code), "{args:?}, {what}: {text}");
        assert!(!text.contains("panicked"), "{args:?}, {what}: {text}");
        check_and_remove();
        text
    };
    let gone = run(at, &args, closed(), Stdio::piped());
    check("stdout closed", &gone, 0);
    let output = run(at, &args, full(), Stdio::piped());
    let text = check("stdout full", &output, 1);
    assert!(text.contains("standard output: No space left"), "{text}");
    assert_eq!(text.matches("error:").count(), 1, "{args:?}: {text}");
    for (what, err) in [("stderr closed", closed()), ("stderr full", full())] {
        check(what, &run(at, &args, Stdio::piped(), err), 0);
    }
}

/// As [`survives`], and what the command writes is there each time, even if it cannot print.
#[track_caller]
fn survives_and_writes(at: &Path, (line, writes): Case) {
    let args: Vec<&str> = line.split(' ').collect();
    survives(at, &args, &|| {
        for name in writes {
            let path = written(at, name);
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.unwrap_or_else(|error| panic!("{line}: {name}: {error}"));
        }
    });
}

/// The path of a name in a [`Case`]; with `*`, of a file whose name begins so.
fn written(at: &Path, name: &str) -> PathBuf {
    let pattern = name.strip_suffix('*').and_then(|n| n.rsplit_once('/'));
    let Some((folder, start)) = pattern else {
        return at.join(name);
    };
    let entries = std::fs::read_dir(at.join(folder)).into_iter().flatten();
    let mut entries = entries.flatten();
    let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(start));
    found.map_or(at.join(name), |entry| entry.path())
}

/// A list with the model `tiny`, whose file is in the cache.
fn cache_model(at: &Path) {
    let file = at.join("cache/models/tiny.pth");
    std::fs::create_dir_all(at.join("cache/models")).expect("a folder");
    std::fs::write(&file, "the weights").expect("a file");
    let hash = sha256(&file).expect("a hash");
    let list = format!(
        "[[model]]\nname = \"tiny\"\nurl = \"http://127.0.0.1:9/tiny.pth\"\nsha256 = \"{hash}\"\n"
    );
    std::fs::write(at.join("models.toml"), list).expect("a list");
}

#[test]
fn every_command_survives_closed_and_full_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    crate::options::yolo(at);
    cache_model(at);
    let mut train = train_args();
    train.push("--out=run");
    cli_ok(at, &train);
    for case in CASES {
        survives_and_writes(at, *case);
    }
    if has_ffmpeg() {
        render_clip(&at.join("clip.mp4"), 1);
        let line = "predict clip.mp4 --weights=run/best.safetensors --backend=cpu --out=p";
        let writes: &[&str] = &["p/0001_clip.mp4", "p/0001_clip.jsonl", "p"];
        survives_and_writes(at, (line, writes));
    }
}

/// `2>&1 | head -1`, `2>/dev/full`: the run completes, and its log contains what was not printed.
#[test]
fn a_training_run_outlives_its_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let mut train = train_args();
    train.push("--out=run");
    let check_and_remove = || {
        let run = at.join("run");
        assert!(run.join("best.safetensors").is_file());
        let log = std::fs::read_to_string(run.join("train.log")).expect("a log");
        for wanted in ["training on 4", "step 1/3", "step 3: box AP", "weights:"] {
            assert!(log.contains(wanted), "no {wanted}: {log}");
        }
        std::fs::remove_dir_all(run).expect("the run");
    };
    survives(at, &train, &check_and_remove);
}

/// A class with terminal control characters in its name is printed with the characters escaped.
#[test]
fn names_from_files_do_not_reach_the_terminal_raw() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 2, 1);
    let path = at.join("shapes/annotations/instances_train.json");
    let text = std::fs::read_to_string(&path).expect("annotations");
    std::fs::write(&path, text.replace("circle", "cir\\u001b[2Jcle")).expect("annotations");
    let output = crate::cli(at, &["dataset", "check", "shapes"]);
    let text = shown(&output);
    assert!(
        text.contains("\\u{1b}[2J") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn a_long_value_does_not_flood_the_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    std::fs::write(at.join("long.toml"), format!("{} = 1", "x".repeat(1 << 20))).expect("a file");
    let output = crate::cli(at, &["train", "--config=long.toml", "--data=none"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.len() < 20_000,
        "{} bytes",
        output.stderr.len()
    );
}
