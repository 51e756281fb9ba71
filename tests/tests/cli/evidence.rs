//! Output files of a run: logs, tables, TensorBoard events and the report.

use crate::{cli_ok, python_with, render_shapes, shown, train_args};
use mrcnn_core::train::Losses;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn records(run: &Path, kind: &str) -> Vec<Value> {
    let lines = read(&run.join("metrics.jsonl"));
    let all = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|record| record["kind"] == kind).collect()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_value_is_in_all_logs() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    let mut train = train_args();
    train.extend(["--out=run", "--eval-every=2", "--set=log.dllogger=true"]);
    let output = cli_ok(at, &train);
    assert!(output.contains("report:   run/report.html"), "{output}");
    let command = "mrcnn-cli predict IMAGES --weights run/best.safetensors";
    assert!(output.contains(command), "{output}");
    let run = at.join("run");

    let (steps, evaluations) = (records(&run, "step"), records(&run, "eval"));
    assert_eq!((steps.len(), evaluations.len()), (3, 2));
    for step in &steps {
        for key in ["lr", "loss", "grad_norm", "images_per_second", "seconds"] {
            assert!(number(&step[key]) > 0.0, "{key} in {step}");
        }
        // The process has more than a megabyte and less than the memory of the machine.
        let memory = number(&step["memory_mb"]);
        assert!((1.0..1e6).contains(&memory), "{memory} MB");
        assert!((0.0..=1.0).contains(&number(&step["data_wait"])));
    }
    for eval in &evaluations {
        let values = Losses::NAMES.iter();
        let sum: f64 = values.map(|name| number(&eval["val_loss"][*name])).sum();
        let loss = number(&eval["val_loss"]["loss"]);
        assert!(
            (loss - sum).abs() < 1e-9 * loss && loss > 0.0,
            "{loss}, {sum}"
        );
        assert!(number(&eval["mask"]["AP"]) >= 0.0 && number(&eval["box"]["AP"]) >= 0.0);
    }

    let table = read(&run.join("steps.csv"));
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    let column = rows[0]
        .iter()
        .position(|name| *name == "loss_mask")
        .expect("a column");
    let third: f64 = rows[3][column].parse().expect("a number");
    // f32 written as f64.
    assert!((third - number(&steps[2]["loss_mask"])).abs() < 1e-6);
    assert_eq!(read(&run.join("evaluations.csv")).lines().count(), 3);

    let dll = read(&run.join("dllogger.json"));
    let dll: Vec<Value> = dll
        .lines()
        .map(|line| serde_json::from_str(line.strip_prefix("DLLL ").expect("DLLL")).expect("JSON"))
        .collect();
    assert!(dll.iter().any(|line| line["step"] == "PARAMETER"));
    let second = dll
        .iter()
        .find(|line| line["step"] == serde_json::json!([0, 2]));
    let second = second.expect("step 2 of epoch 0");
    assert_eq!(second["data"]["mask_rcnn_loss"], steps[1]["loss_mask"]);
    let last = dll.last().expect("a line");
    assert_eq!(last["data"]["mask_AP"], evaluations[1]["mask"]["AP"]);
    assert_eq!(last["step"], serde_json::json!([]));
}

const READER: &str = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
for tag in sorted(events.Tags()['scalars']):
    for event in events.Scalars(tag):
        print(tag, event.step, repr(event.value))
";

#[test]
fn tensorboard_reads_the_events_of_a_resumed_run() {
    let Some(python) = python_with("tensorboard", "tensorboard") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 2);
    let mut train = train_args();
    train.extend(["--out=run", "--set=train.checkpoint_every=2"]);
    cli_ok(at, &train);
    // As if the run had been killed after step 3: step 3 is repeated, and its first events are invalid.
    std::fs::remove_dir_all(at.join("run/checkpoints/00000003")).expect("a checkpoint");
    cli_ok(
        at,
        &[
            "train",
            "--resume=run",
            "--backend=cpu",
            "--set=train.steps=5",
        ],
    );
    let run = at.join("run");
    let output = Command::new(python)
        .args(["-c", READER])
        .arg(run.join("tensorboard"))
        .output()
        .expect("python");
    let text = shown(&output);
    let of = |tag: &str| -> Vec<(usize, f64)> {
        let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines
            .filter(|parts| parts[0] == tag)
            .map(|parts| {
                (
                    parts[1].parse().expect("a step"),
                    parts[2].parse().expect("a value"),
                )
            })
            .collect()
    };
    let wanted: Vec<(usize, f64)> = (1..)
        .zip(
            records(&run, "step")
                .iter()
                .map(|step| number(&step["loss"])),
        )
        .collect();
    let found = of("train/loss");
    assert_eq!(found.len(), 5, "{text}");
    for ((step, loss), (at, logged)) in found.into_iter().zip(wanted) {
        // Both are f32.
        assert!(step == at && (loss - logged).abs() < 1e-6 * loss, "{text}");
    }
    assert_eq!(of("val/mask_AP50").len(), 1, "that of step 5: {text}");
    assert!(
        !of("train/lr").is_empty() && !of("val/loss_mask").is_empty(),
        "{text}"
    );
}

#[test]
fn the_report_is_one_complete_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 3);
    let mut train = train_args();
    train.extend(["--out=run", "--eval-every=1", "--set=log.worst_images=2"]);
    cli_ok(at, &train);
    let html = read(&at.join("run/report.html"));
    for wanted in [
        "<h2>Curves</h2>",
        "loss by part",
        "validation loss",
        "<h2>Classes</h2>",
        "<td>triangle</td>",
        "<h2>Precision and recall</h2>",
        "<h2>Errors</h2>",
        "right place, wrong class",
        "<h2>Confusion</h2>",
        "<th>missed</th>",
        "<h2>Worst images</h2>",
        "batch_size = 2",
    ] {
        assert!(html.contains(wanted), "{wanted} is missing");
    }
    // An untrained network misses every object.
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 2);
    // Three evaluations: a header and three rows.
    let table = html
        .split("<h2>Evaluations</h2>")
        .nth(1)
        .expect("the table");
    let table = table.split("</table>").next().expect("its end");
    assert_eq!(table.matches("<tr").count(), 4, "{table}");
    for network in ["<script", "<link", "src='http", "@import", "url("] {
        assert!(!html.contains(network), "{network} would need a network");
    }

    train.extend(["--set=log.report=false", "--set=log.tensorboard=false"]);
    let mut without: Vec<&str> = train.into_iter().filter(|a| *a != "--out=run").collect();
    without.extend([
        "--out=quiet",
        "--set=log.csv=false",
        "--set=train.val_loss_images=0",
    ]);
    cli_ok(at, &without);
    for file in ["report.html", "tensorboard", "steps.csv", "dllogger.json"] {
        assert!(!at.join("quiet").join(file).exists(), "{file}");
    }
    let eval = &records(&at.join("quiet"), "eval")[0];
    assert_eq!(eval["val_loss"], serde_json::json!({}));
}
