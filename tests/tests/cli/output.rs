//! Output to a closed pipe, a full disk or a closed terminal: no command
//! panics, results are written anyway, and a training run continues.
#![cfg(target_os = "linux")]

use crate::{SMALL, binary, cli_ok, render_shapes, shown, train_args};
use std::fs::File;
use std::path::Path;
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
    // Without it, a Vulkan layer of Mesa prints an error of its own.
    command.env("XDG_RUNTIME_DIR", at);
    let child = command.spawn().expect("a process");
    child.wait_with_output().expect("its end")
}

/// Runs a command with each stream broken in each way. `again` removes what it has written.
#[track_caller]
fn survives(at: &Path, args: &[&str], prints: bool, again: &dyn Fn()) {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let check = |what: &str, output: &Output, code: i32| {
        let text = shown(output);
        assert_eq!(output.status.code(), Some(code), "{args:?}, {what}: {text}");
        assert!(!text.contains("panicked"), "{args:?}, {what}: {text}");
        again();
        text
    };
    let gone = run(at, &args, closed(), Stdio::piped());
    check("stdout closed", &gone, 0);
    if prints {
        let output = run(at, &args, full(), Stdio::piped());
        let text = check("stdout full", &output, 1);
        assert!(text.contains("standard output: No space left"), "{text}");
        assert_eq!(text.matches("error:").count(), 1, "{args:?}: {text}");
    }
    for (what, err) in [("stderr closed", closed()), ("stderr full", full())] {
        check(what, &run(at, &args, Stdio::piped(), err), 0);
    }
}

#[test]
fn every_command_survives_closed_and_full_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    let mut train = train_args();
    train.push("--out=run");
    cli_ok(at, &train);
    let remove = |names: &'static [&'static str]| {
        move || {
            for name in names {
                let _ = std::fs::remove_dir_all(at.join(name));
                let _ = std::fs::remove_file(at.join(name));
            }
        }
    };
    let weights = "--weights=run/best.safetensors";
    let nothing = || ();
    survives(at, &["--help"], true, &nothing);
    survives(at, &["doctor"], true, &nothing);
    survives(at, &["config", "explain"], true, &nothing);
    survives(at, &["dataset", "check", "shapes"], true, &nothing);
    let render = ["dataset", "shapes", "--out=more", "--train=2", "--val=1"];
    survives(at, &render, true, &remove(&["more"]));
    let preview = ["dataset", "preview", "shapes", "--count=1", "--out=preview"];
    survives(at, &preview, true, &remove(&["preview"]));
    let convert = ["convert", "run/best.safetensors", "--out=c.safetensors"];
    survives(at, &convert, true, &remove(&["c.safetensors", "c.toml"]));
    let eval = ["eval", weights, "--data=shapes", "--backend=cpu"];
    survives(at, &eval, true, &nothing);
    let mut benchmark = vec![
        "benchmark",
        "inference",
        "--backend=cpu",
        "--steps=1",
        "--warmup=0",
    ];
    benchmark.extend(SMALL);
    benchmark.extend(["--set=image.min_size=64", "--set=image.max_size=64"]);
    survives(at, &benchmark, true, &nothing);
    for format in ["table", "json"] {
        let format = format!("--format={format}");
        let predict = [
            "predict",
            "shapes/val",
            weights,
            "--backend=cpu",
            "--out=p",
            &format,
        ];
        survives(at, &predict, true, &|| {
            // The files are written even if the table cannot be.
            assert!(at.join("p/detections.json").is_file(), "{format}");
            let _ = std::fs::remove_dir_all(at.join("p"));
        });
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
    let again = || {
        let run = at.join("run");
        assert!(run.join("best.safetensors").is_file());
        let log = std::fs::read_to_string(run.join("train.log")).expect("a log");
        for wanted in ["training on 4", "step 1/3", "step 3: box AP", "weights:"] {
            assert!(log.contains(wanted), "no {wanted}: {log}");
        }
        std::fs::remove_dir_all(run).expect("the run");
    };
    survives(at, &train, true, &again);
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
