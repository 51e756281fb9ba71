//! Every option of every command has a case that shows its effect.

mod data;
mod eval;
mod predict;
mod saved;
mod tools;
mod train;

pub use data::yolo;

use crate::evidence::records;
use crate::{binary, cli_ok, render_shapes, shown, train_args};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A test of an option, in a folder with rendered `shapes/` and a short run in `base/`.
type Case = fn(&Path);

/// An option of a command, and its case.
type Table = &'static [(&'static str, Case)];

/// Every command with its table.
const COMMANDS: [(&[&str], Table); 18] = [
    (&["quickstart"], tools::QUICKSTART),
    (&["train"], train::TRAIN),
    (&["eval"], eval::EVAL),
    (&["predict"], predict::PREDICT),
    (&["convert"], tools::CONVERT),
    // They have arguments and no options.
    (&["models", "fetch"], &[]),
    (&["models", "path"], &[]),
    (&["models", "verify"], &[]),
    (&["dataset", "shapes"], tools::SHAPES),
    (&["dataset", "check"], data::CHECK),
    (&["dataset", "convert"], data::CONVERT),
    (&["dataset", "preview"], data::PREVIEW),
    (&["dataset", "stats"], data::STATS),
    (&["benchmark"], tools::BENCHMARK),
    // It has an argument and no options.
    (&["config", "explain"], &[]),
    (&["doctor"], tools::DOCTOR),
    // An argument or none, and no options.
    (&["completions"], &[]),
    (&["man"], &[]),
];

/// The lines of a section of a command's help.
fn help(command: &[&str]) -> String {
    let mut args = command.to_vec();
    args.push("--help");
    cli_ok(Path::new("."), &args)
}

/// The long options that a command's help lists.
fn options(command: &[&str]) -> BTreeSet<String> {
    let text = help(command);
    let words = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let long = line
            .strip_prefix("-h, ")
            .or(line.strip_prefix("-V, "))
            .unwrap_or(line);
        let word = long.split([' ', '=', ',']).next()?;
        word.starts_with("--").then(|| word.to_string())
    });
    words
        .filter(|word| word != "--help" && word != "--version")
        .collect()
}

/// Every command without subcommands, as its words.
pub fn commands(above: &[&str]) -> Vec<Vec<String>> {
    let text = help(above);
    let Some(section) = text.split("\nCommands:\n").nth(1) else {
        return vec![above.iter().map(ToString::to_string).collect()];
    };
    let lines = section.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| {
        let name = line.strip_prefix("  ")?;
        (!name.starts_with(' ')).then(|| name.split(' ').next())?
    });
    let below = names.filter(|name| *name != "help").map(|name| {
        let mut path = above.to_vec();
        path.push(name);
        commands(&path)
    });
    below.flatten().collect()
}

#[test]
fn no_option_is_without_a_case() {
    let known: BTreeSet<Vec<String>> = COMMANDS
        .iter()
        .map(|(command, _)| command.iter().map(ToString::to_string).collect())
        .collect();
    let found: BTreeSet<Vec<String>> = commands(&[]).into_iter().collect();
    assert_eq!(found, known, "commands, and those in the table COMMANDS");
    for (command, table) in COMMANDS {
        let found = options(command);
        let tested: BTreeSet<String> = table.iter().map(|(name, _)| name.to_string()).collect();
        let untested: Vec<_> = found.difference(&tested).collect();
        let gone: Vec<_> = tested.difference(&found).collect();
        assert!(
            untested.is_empty() && gone.is_empty(),
            "{command:?}: without a case {untested:?}, no longer there {gone:?}"
        );
    }
}

/// Runs the cases of a table, each with its name.
fn run(table: Table) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    trained(at, "base", &[]);
    for (name, case) in table {
        println!("{name}");
        case(at);
    }
}

#[test]
fn options_of_train() {
    run(train::TRAIN);
}

#[test]
fn options_of_eval_and_predict() {
    run(eval::EVAL);
    run(predict::PREDICT);
}

#[test]
fn options_of_the_other_commands() {
    for table in [
        tools::QUICKSTART,
        tools::CONVERT,
        tools::SHAPES,
        data::CHECK,
        data::CONVERT,
        data::PREVIEW,
        data::STATS,
        tools::BENCHMARK,
        tools::DOCTOR,
    ] {
        run(table);
    }
}

/// A run of three steps with more arguments, which may replace the usual ones.
fn trained(at: &Path, out: &str, more: &[&str]) -> PathBuf {
    let name = |arg: &str| arg.split('=').next().unwrap_or_default().to_string();
    let given: Vec<String> = more.iter().map(|arg| name(arg)).collect();
    let mut args = train_args();
    args.retain(|arg| name(arg) == "--set" || !given.contains(&name(arg)));
    let out_arg = format!("--out={out}");
    if !given.contains(&"--resume".to_string()) {
        args.push(&out_arg);
    }
    args.extend(more);
    cli_ok(at, &args);
    at.join(out)
}

/// Checks that a command that needs a pretrained model uses no network with `--offline`.
fn is_offline(at: &Path, args: &[&str]) {
    let run = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.args(args).args(more).current_dir(at);
        // Nobody listens at this port.
        command.env("MRCNN_MODEL_BASE_URL", "http://127.0.0.1:9");
        command
            .env_remove("MRCNN_OFFLINE")
            .env("MRCNN_CACHE", "cache");
        let output = command.output().expect("the program");
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        shown(&output)
    };
    let output = run(&["--offline"]);
    assert!(
        output.contains("--offline or MRCNN_OFFLINE forbids the network"),
        "{output}"
    );
    assert!(run(&[]).contains("127.0.0.1:9"));
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A key of a run's `args.toml`, as written.
fn setting(run: &Path, key: &str) -> String {
    let args = text(&run.join("args.toml"));
    let line = args
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("no {key} in {args}")).into()
}

/// The losses of a run's steps.
fn losses(run: &Path) -> Vec<f64> {
    records(run, "step")
        .iter()
        .map(|step| step["loss"].as_f64().expect("a loss"))
        .collect()
}

fn evaluations(run: &Path) -> usize {
    text(&run.join("metrics.jsonl"))
        .matches("\"kind\":\"eval\"")
        .count()
}

/// The numbers of a tensor in a weights file.
fn tensor(file: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    tensors
        .tensor(name)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .data()
        .to_vec()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
