//! The options of the commands around training.

use super::{Table, is_offline, json, setting, text, trained};
use crate::{SMALL, binary, cli_error, cli_ok, shown};
use safetensors::SafeTensors;
use std::path::Path;

fn quickstart(at: &Path, out: &str, more: &[&str]) {
    let out = format!("--out={out}");
    let mut args = vec!["quickstart", "--backend=cpu", &out];
    args.extend(SMALL);
    args.extend(["--set=train.steps=1"]);
    args.extend(more);
    cli_ok(at, &args);
}

pub const QUICKSTART: Table = &[
    ("--out", |at| {
        quickstart(at, "quick", &[]);
        assert!(at.join("quick/predictions.png").is_file());
    }),
    ("--seed", |at| {
        quickstart(at, "other", &["--seed=9"]);
        assert_eq!(setting(&at.join("other/run"), "seed"), "9");
        let first = "data/train/000000.png";
        let [a, b] = ["quick", "other"].map(|out| std::fs::read(at.join(out).join(first)));
        assert!(a.expect("an image") != b.expect("an image"));
    }),
    ("--backend", |at| {
        assert!(cli_error(at, &["quickstart", "--backend=cuda"]).contains("cuda backend"));
    }),
    ("--precision", |at| {
        quickstart(at, "half", &["--precision=bf16"]);
        assert_eq!(setting(&at.join("half/run"), "precision"), "\"bf16\"");
    }),
    ("--set", |at| {
        quickstart(at, "set", &["--set=train.flip=0.25"]);
        assert_eq!(setting(&at.join("set/run"), "flip"), "0.25");
    }),
];

/// Converts a run for torchvision.
fn convert(at: &Path, more: &[&str]) -> String {
    if !at.join("tv/best.safetensors").exists() {
        trained(
            at,
            "tv",
            &["--set=model.norm=frozen_bn", "--set=model.head_norm=none"],
        );
    }
    let mut args = vec!["convert", "tv/best.safetensors"];
    args.extend(more);
    cli_ok(at, &args)
}

pub const CONVERT: Table = &[
    ("--offline", |at| {
        is_offline(at, &["convert", "maskrcnn_resnet50_fpn"]);
    }),
    ("--to", |at| {
        let output = convert(at, &["--to=torchvision", "--out=to.safetensors"]);
        assert!(output.contains("set in torchvision"), "{output}");
    }),
    ("--out", |at| {
        convert(at, &["--out=out.safetensors"]);
        assert!(at.join("out.safetensors").is_file());
    }),
    ("--dtype", |at| {
        convert(at, &["--dtype=f16", "--out=half.safetensors"]);
        let size = |file: &str| at.join(file).metadata().expect("a file").len();
        assert!(size("half.safetensors") < size("out.safetensors") * 6 / 10);
    }),
    // Refusing values that f16 cannot hold is tested where weights are written; a file of ours cannot be edited
    // to have some, because of its checksum.
    ("--allow-overflow", |at| {
        let args = ["--dtype=f16", "--allow-overflow", "--out=any.safetensors"];
        convert(at, &args);
        assert!(at.join("any.safetensors").is_file());
    }),
    ("--classes", |at| {
        // Without the header there are no class names.
        convert(at, &["--to=torchvision", "--out=bare.safetensors"]);
        std::fs::write(at.join("names.txt"), "one\ntwo\nthree\nfour\n").expect("names");
        let args = [
            "convert",
            "bare.safetensors",
            "--classes=names.txt",
            "--out=named.safetensors",
        ];
        cli_ok(at, &args);
        let header = std::fs::read(at.join("named.safetensors")).expect("weights");
        assert!(String::from_utf8_lossy(&header[..20_000]).contains("three"));
    }),
    ("--prefix", |at| {
        convert(at, &["--to=torchvision", "--out=one.safetensors"]);
        let bytes = std::fs::read(at.join("one.safetensors")).expect("weights");
        let one = SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensors = one.tensors();
        let both = ["model.", "ema_model."].into_iter().flat_map(|prefix| {
            let named = tensors.iter();
            named.map(move |(name, tensor)| (format!("{prefix}{name}"), tensor.clone()))
        });
        let both = safetensors::serialize(both, None).expect("safetensors");
        std::fs::write(at.join("both.safetensors"), both).expect("weights");
        let mut args = vec!["convert", "both.safetensors", "--out=ema.safetensors"];
        assert!(cli_error(at, &args).contains("--prefix"));
        args.push("--prefix=ema_model.");
        cli_ok(at, &args);
        assert!(at.join("ema.safetensors").is_file());
    }),
    ("--detectron2-config", |at| {
        // With weights of Detectron2 it is tested in the library.
        std::fs::write(at.join("config.yaml"), "MODEL: {MASK_ON: true}").expect("a file");
        let config = "--detectron2-config=config.yaml";
        let args = ["convert", "both.safetensors", "--prefix=model", config];
        assert!(cli_error(at, &args).contains("weights of another system"));
    }),
    ("--set", |at| {
        convert(at, &["--set=model.norm_eps=0.5", "--out=eps.safetensors"]);
        assert!(text(&at.join("eps.toml")).contains("norm_eps = 0.5"));
    }),
];

/// Renders and returns the annotations of a split.
fn shapes(at: &Path, out: &str, more: &[&str]) -> [serde_json::Value; 2] {
    let out_arg = format!("--out={out}");
    let mut args = vec!["dataset", "shapes", &out_arg];
    for few in ["--train=3", "--val=1"] {
        let name = few.split('=').next().unwrap_or_default();
        if !more.iter().any(|arg| arg.starts_with(name)) {
            args.push(few);
        }
    }
    args.extend(more);
    cli_ok(at, &args);
    let file = |split| {
        json(
            &at.join(out)
                .join(format!("annotations/instances_{split}.json")),
        )
    };
    [file("train"), file("val")]
}

fn count(file: &serde_json::Value, what: &str) -> usize {
    file[what].as_array().expect("a list").len()
}

pub const SHAPES: Table = &[
    ("--out", |at| {
        shapes(at, "rendered", &[]);
        assert!(at.join("rendered/train/000000.png").is_file());
    }),
    ("--train", |at| {
        assert_eq!(count(&shapes(at, "train", &["--train=5"])[0], "images"), 5);
    }),
    ("--val", |at| {
        assert_eq!(count(&shapes(at, "val", &["--val=4"])[1], "images"), 4);
    }),
    ("--size", |at| {
        let [train, _] = shapes(at, "size", &["--size", "64", "64"]);
        assert!(
            train["images"]
                .as_array()
                .expect("a list")
                .iter()
                .all(|i| i["width"] == 64)
        );
    }),
    ("--objects", |at| {
        let few = shapes(at, "few", &["--train=20", "--objects=2"]);
        let many = shapes(at, "many", &["--train=20", "--objects=9"]);
        assert!(count(&few[0], "annotations") <= 40);
        assert!(count(&many[0], "annotations") > count(&few[0], "annotations"));
    }),
    ("--seed", |at| {
        shapes(at, "seeded", &["--seed=3"]);
        let first = "train/000000.png";
        let [a, b] = ["rendered", "seeded"].map(|out| std::fs::read(at.join(out).join(first)));
        assert!(a.expect("an image") != b.expect("an image"));
    }),
];

/// The JSON of a short benchmark.
fn benchmark(at: &Path, more: &[&str]) -> serde_json::Value {
    timed(at, "inference", more)
}

fn timed(at: &Path, mode: &str, more: &[&str]) -> serde_json::Value {
    let given = |name: &str| more.iter().any(|arg| arg.starts_with(name));
    let mut args = vec!["benchmark", mode, "--backend=cpu"];
    if !given("--config") && !given("--weights") {
        args.push("--config=quickstart");
    }
    args.extend(SMALL);
    for usual in ["--warmup=0", "--steps=1", "--json=timed.json"] {
        let name = usual.split('=').next().unwrap_or_default();
        if !given(name) {
            args.push(usual);
        }
    }
    args.extend(more);
    cli_ok(at, &args);
    let file = more.iter().find_map(|arg| arg.strip_prefix("--json="));
    json(&at.join(file.unwrap_or("timed.json")))
}

pub const BENCHMARK: Table = &[
    ("--config", |at| {
        let found = benchmark(at, &["--config=nuclei", "--set=image.min_size=96"]);
        assert_eq!(found["model"]["roi"]["max_detections"], 300);
    }),
    ("--weights", |at| {
        let found = benchmark(at, &["--weights=base/last.safetensors"]);
        assert_eq!(found["model"]["num_classes"], 5);
        // A preset takes the number of classes from the data; here they are those of the weights.
        let preset = ["--config=base/args.toml", "--set=model.num_classes=0"];
        let found = benchmark(
            at,
            &[&preset[..], &["--weights=base/last.safetensors"]].concat(),
        );
        assert_eq!(found["model"]["num_classes"], 5);
    }),
    ("--offline", |at| {
        is_offline(
            at,
            &[
                "benchmark",
                "inference",
                "--backend=cpu",
                "--weights=maskrcnn_resnet50_fpn",
            ],
        );
    }),
    ("--data", |at| {
        assert_eq!(benchmark(at, &["--data=shapes"])["data"], "shapes")
    }),
    ("--batch-size", |at| {
        let found = benchmark(at, &["--batch-size=2,1"]);
        assert_eq!(found["results"][0]["batch_size"], 2);
        assert_eq!(found["results"][1]["batch_size"], 1);
    }),
    ("--warmup", |at| {
        assert_eq!(benchmark(at, &["--warmup=2"])["warmup"], 2)
    }),
    ("--steps", |at| {
        let found = benchmark(at, &["--steps=3"]);
        let ms = &found["results"][0]["step_ms"];
        assert!(ms["min"] != ms["max"], "three steps: {ms}");
        let ms = benchmark(at, &[])["results"][0]["step_ms"].clone();
        assert_eq!(ms["min"], ms["max"], "one step");
    }),
    ("--graph", |at| {
        let mut args = vec![
            "benchmark",
            "inference",
            "--backend=cpu",
            "--config=quickstart",
        ];
        args.extend(SMALL);
        args.push("--graph");
        let error = cli_error(at, &args);
        assert!(error.contains("does not record"), "{error}");
        args[1] = "train";
        let error = cli_error(at, &args);
        assert!(error.contains("does not record"), "{error}");
        let error = cli_error(at, &["benchmark", "kernels", "--backend=cpu", "--graph"]);
        assert!(error.contains("whole steps"), "{error}");
    }),
    ("--profile", |at| {
        let mut args = vec![
            "benchmark",
            "train",
            "--backend=cpu",
            "--config=quickstart",
            "--warmup=1",
            "--steps=1",
        ];
        args.extend(SMALL);
        args.push("--profile");
        let error = cli_error(at, &args);
        assert!(error.contains("launches none"), "{error}");
        let error = cli_error(at, &["benchmark", "kernels", "--backend=cpu", "--profile"]);
        assert!(error.contains("whole steps"), "{error}");
        args.retain(|arg| *arg != "--warmup=1");
        args.push("--warmup=0");
        let error = cli_error(at, &args);
        assert!(error.contains("warm-up"), "{error}");
    }),
    ("--only", |at| {
        let of = |more: &[&str]| timed(at, "kernels", more)["results"][0]["report"].clone();
        let report = of(&["--only=NMS,RoIAlign"]);
        let kernels = report["kernels"].as_array().expect("a list of kernels");
        let names = kernels.iter().map(|kernel| &kernel["kernel"]);
        let is_selected = |name: &str| name == "NMS" || name.starts_with("RoIAlign");
        assert!(
            names
                .clone()
                .all(|name| is_selected(name.as_str().unwrap_or_default()))
        );
        assert_eq!(kernels.len(), 7, "NMS, three RoIAligns and their gradients");
        let rates = &report["rates"];
        assert!(
            rates["gflop_per_second"].as_f64() > Some(0.1)
                && rates["gb_per_second"].as_f64() > Some(0.1)
        );
        for kernel in kernels {
            let (floor, took) = (kernel["floor_ms"].as_f64(), kernel["ms"]["p50"].as_f64());
            assert!(floor > Some(0.0) && took > Some(0.0), "{kernel}");
        }
        let run = |more: &[&str]| {
            cli_error(
                at,
                &[&["benchmark", "kernels", "--backend=cpu"], more].concat(),
            )
        };
        let error = run(&["--only=nothing"]);
        assert!(
            error.contains("nothing") && error.contains("--only"),
            "{error}"
        );
        assert!(run(&["--data=shapes"]).contains("random numbers"));
        let error = cli_error(at, &["benchmark", "train", "--backend=cpu", "--only=NMS"]);
        assert!(error.contains("benchmark kernels"), "{error}");
    }),
    ("--json", |at| {
        benchmark(at, &["--json=elsewhere.json"]);
        assert!(at.join("elsewhere.json").is_file());
    }),
    ("--precision", |at| {
        assert_eq!(benchmark(at, &["--precision=f16"])["precision"], "f16");
        assert_eq!(benchmark(at, &[])["precision"], "f32");
        // Training uses the setting of the configuration, which the option changes.
        let found = timed(at, "train", &["--set=train.precision=bf16"]);
        assert_eq!(found["precision"], "bf16");
        let found = timed(at, "train", &["--precision=f16"]);
        assert_eq!(found["precision"], "f16");
    }),
    ("--backend", |at| {
        let error = cli_error(at, &["benchmark", "train", "--backend=cuda"]);
        assert!(error.contains("cuda backend"), "{error}");
    }),
    ("--set", |at| {
        assert_eq!(
            benchmark(at, &["--set=image.max_size=160"])["image"]["max_size"],
            160
        );
    }),
];

pub const DOCTOR: Table = &[
    ("--format", |at| {
        assert!(cli_ok(at, &["doctor", "--format=json"]).starts_with('{'));
        let table = cli_ok(at, &["doctor"]);
        assert!(
            table.starts_with("mrcnn") && table.contains("--precision f32, f16, bf16; auto is f32")
        );
    }),
    ("--clear-kernels", |at| {
        let folder = at.join("kernels");
        std::fs::create_dir(&folder).expect("a folder");
        for name in ["gpu.db", "gpu.db-wal", "notes.txt"] {
            std::fs::write(folder.join(name), [0; 700_000]).expect("a file");
        }
        let doctor = |args: &[&str]| {
            let mut command = std::process::Command::new(binary());
            command.args(args).env("MRCNN_KERNEL_CACHE", &folder);
            shown(&command.output().expect("the program"))
        };
        assert!(doctor(&["doctor"]).contains("kernels of earlier runs: 1.4 MB"));
        assert!(doctor(&["doctor", "--clear-kernels"]).contains("deleted 1.4 MB"));
        let left: Vec<_> = std::fs::read_dir(&folder).expect("a folder").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }),
];
