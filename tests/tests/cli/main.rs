//! The built binary, end to end.

mod adapters;
mod bad_input;
mod camera;
mod convert;
mod evidence;
mod full_disk;
mod left_out;
mod models;
mod modes;
mod notes;
mod options;
mod output;
mod precision;
mod predict;
mod ranks;
mod resume;
mod run;
mod run_folder;
mod shell;
mod signals;
mod stopping;
mod urls;
mod video;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `mrcnn-cli` with arguments, in a folder, without a network and without the models of this machine's user.
pub fn cli(folder: &Path, args: &[&str]) -> Output {
    Command::new(binary())
        .args(args)
        .current_dir(folder)
        .env("MRCNN_OFFLINE", "1")
        .env("MRCNN_CACHE", "cache")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", binary().display()))
}

/// As [`cli`], must succeed; its standard output.
#[track_caller]
pub fn cli_ok(folder: &Path, args: &[&str]) -> String {
    let output = cli(folder, args);
    let text = shown(&output);
    assert!(
        output.status.success(),
        "mrcnn-cli {args:?} failed:\n{text}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// As [`cli`], must fail with one clear error and not panic; its standard error.
#[track_caller]
pub fn cli_error(folder: &Path, args: &[&str]) -> String {
    let output = cli(folder, args);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "mrcnn-cli {args:?}:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Both streams of a finished command.
pub fn shown(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    format!("{out}\n{err}")
}

/// The binary: `cargo test --workspace` builds it beside the tests.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps");
    let binary = folder.join(format!("mrcnn-cli{}", std::env::consts::EXE_SUFFIX));
    assert!(
        binary.is_file(),
        "{} is missing: run `cargo test --workspace`",
        binary.display()
    );
    binary
}

/// Overrides that make a network small enough for a test.
pub const SMALL: [&str; 10] = [
    "--set=model.width=8",
    "--set=model.fpn_channels=16",
    "--set=model.box_head.hidden=32",
    "--set=model.mask_head.convs=[16]",
    "--set=model.mask_head.hidden=16",
    "--set=model.rpn.pre_nms_test=100",
    "--set=model.rpn.post_nms_test=50",
    "--set=train.batch_size=2",
    "--set=train.steps=3",
    "--set=train.val_images=2",
];

/// Arguments of a short training run on `shapes/`.
pub fn train_args() -> Vec<&'static str> {
    let mut args = vec![
        "train",
        "--config=quickstart",
        "--data=shapes",
        "--backend=cpu",
    ];
    args.extend(SMALL);
    args
}

/// Renders `train` and `val` images into `shapes/`.
pub fn render_shapes(at: &Path, train: usize, val: usize) {
    let [train, val] = [train, val].map(|count| count.to_string());
    let args = [
        "dataset", "shapes", "--out", "shapes", "--train", &train, "--val", &val,
    ];
    cli_ok(at, &args);
}

/// The number of whole lines of a file that may not exist yet.
pub fn line_count(file: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// Waits for what another process does.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "{what}: not in two minutes"
        );
        sleep(Duration::from_millis(2));
    }
}

/// A Python that has modules: `MRCNN_PYTHON`, or the virtual environment of `.ci/run` in `~/.cache/mrcnn-python`.
/// `what` is their name in `MRCNN_REQUIRE`.
pub fn python_with(what: &str, modules: &str) -> Option<PathBuf> {
    let has = |python: &PathBuf| {
        let import = format!("import {modules}");
        let output = Command::new(python).args(["-c", &import]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let given = std::env::var_os("MRCNN_PYTHON").map_or("python3".into(), PathBuf::from);
    let home = std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    let made = home.join(".cache/mrcnn-python/bin/python");
    let python = [given, made].into_iter().find(has);
    let help = format!(
        "no Python has {modules}: python3 -m venv ~/.cache/mrcnn-python, and its pip install them"
    );
    mrcnn_tests::found(python.is_some(), what, &help);
    python
}
