//! `mrcnn-cli benchmark`.

use crate::backend::{BackendArgs, print_precision};
use crate::shared::{OverrideArgs, load_config};
use crate::terminal::{note, out};
use crate::weights::{FetchArgs, RequiredPart};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use mrcnn_backends::{Precision, Selected};
use mrcnn_core::MaskRcnn;
use mrcnn_core::benchmark::{
    BenchmarkSpec, KernelReport, KernelSpec, Mode, Profile, benchmark, benchmark_graph,
    benchmark_kernels,
};
use mrcnn_core::config::Config;
use mrcnn_core::weights;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchmarkArgs {
    /// Work that is timed
    #[arg(value_enum)]
    mode: BenchmarkMode,
    /// TOML file or preset; by default the settings of the weights, or torchvision's R50-FPN
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Weights: the name of a pretrained model, or a file; random ones by default
    #[arg(long, value_name = "NAME|FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    fetch: FetchArgs,
    /// Dataset folder, whose training split is read within the timed steps; by default images are rendered beforehand
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Images per step; several with commas: 1,2,4
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    batch_size: Vec<usize>,
    /// Warm-up steps, which are not timed: kernels are tuned in them
    #[arg(long, default_value_t = 5)]
    warmup: usize,
    /// Timed steps; percentiles of few steps are coarse
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Time inference without image reading and mask pasting, or training without uploads and the optimizer, with
    /// kernels launched one by one and replayed as a recorded graph (CUDA)
    #[arg(long, conflicts_with = "data")]
    graph: bool,
    /// Record the GPU kernels of the timed steps, and list them by time; the steps take longer. With --data, kernels
    /// for batches of a new size are tuned within these steps
    #[arg(long, conflicts_with = "graph")]
    profile: bool,
    /// Time only kernels whose name or problem contains one of these texts, separated by commas: 'conv 3x3,NMS'. A comma in
    /// a name separates, too
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BenchmarkMode {
    /// Forward, losses, backward, optimizer
    Train,
    /// From an image to detections with masks
    Inference,
    /// Each layer and operator of a training step and the pasting of masks, one at a time, beside the time that its bytes
    /// and floating-point operations take at the rates of a copy and a matrix product
    Kernels,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli benchmark inference --batch-size 1,2,4
  mrcnn-cli benchmark inference --backend cuda --graph --batch-size 1,4,16
  mrcnn-cli benchmark train --backend cuda --graph --batch-size 4
  mrcnn-cli benchmark train --backend cuda --precision f16 --batch-size 4 --profile --json profile.json
  mrcnn-cli benchmark train --config quickstart --batch-size 4 --steps 100 --json train.json
  mrcnn-cli benchmark train --config nuclei --data ~/nuclei --backend wgpu
  mrcnn-cli benchmark kernels --backend cuda --precision f16 --batch-size 4 --json kernels.json";

pub fn run(args: &BenchmarkArgs) -> Result<()> {
    ensure!(
        !args.graph || args.mode != BenchmarkMode::Kernels,
        "--graph records whole steps: mrcnn-cli benchmark inference --graph"
    );
    ensure!(
        !args.profile || args.mode != BenchmarkMode::Kernels,
        "--profile records whole steps: mrcnn-cli benchmark train --profile"
    );
    ensure!(
        args.only.is_empty() || args.mode == BenchmarkMode::Kernels,
        "--only selects kernels: mrcnn-cli benchmark kernels --only {}",
        args.only.join(",")
    );
    if args.mode == BenchmarkMode::Kernels {
        return kernels(args);
    }
    let start = match &args.weights {
        Some(named) => Some(
            args.fetch
                .source(named, RequiredPart::Backbone, true)?
                .read(None)?,
        ),
        None => None,
    };
    let mut config = match (&args.config, &start) {
        (None, Some((start, _))) => start.config.clone(),
        (name, _) => load_config(name.as_deref())?,
    };
    if args.config.is_none() {
        // The configured precision is that of the device where the weights were trained.
        config.train.precision = Precision::Auto;
    }
    let options = args.backend.precision_override();
    let mut config = config.with(&args.overrides.append_to(options)?)?;
    if let Some((start, _)) = start.as_ref().filter(|_| config.model.num_classes == 0) {
        config.model.num_classes = start.classes.len() + 1;
    }
    config.check()?;
    let backend = args.backend.select()?;
    let mode = match args.mode {
        BenchmarkMode::Train => Mode::Train,
        _ => Mode::Inference,
    };
    let precision = match mode {
        Mode::Train => config.train.precision.resolve(&backend.device)?,
        Mode::Inference => args.backend.precision(&backend, false)?,
    };
    print_precision(precision);
    let model = match start {
        Some((start, path)) => {
            let device = backend.device.clone().autodiff();
            let model = MaskRcnn::new(&config.model, config.train.seed, &device);
            Some(weights::transfer(model, start, None, &path)?.model)
        }
        None => None,
    };
    let spec = BenchmarkSpec {
        mode,
        batch_sizes: args.batch_size.clone(),
        warmup: args.warmup,
        steps: args.steps,
        data: args.data.clone(),
        precision,
        profile: args.profile,
    };
    if args.graph {
        return graph(args, &spec, &config, model, &backend);
    }
    let mut report = |line: &str| note!("{line}");
    let results = benchmark(&spec, &config, model, &backend.device, &mut report)?;
    out!(
        "{:>6} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "batch",
        "padded",
        "images/s",
        "mean ms",
        "p50",
        "p90",
        "p95",
        "p99",
        "max",
        "data wait"
    );
    for result in &results {
        let t = &result.step_ms;
        out!(
            "{:>6} {:>11} {:>9.2} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}%",
            result.batch_size,
            format!("{}x{}", result.padded.0, result.padded.1),
            result.images_per_second,
            t.mean,
            t.p50,
            t.p90,
            t.p95,
            t.p99,
            t.max,
            100.0 * result.data_wait
        );
    }
    for result in &results {
        if let Some(profile) = &result.profile {
            print_profile(result.batch_size, profile);
        }
    }
    write_json(
        args.json.as_deref(),
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "mode": spec.mode,
            "backend": backend.kind,
            "device": backend.name,
            "precision": precision.precision(),
            "data": spec.data.as_ref().map_or("rendered".into(), |d| d.display().to_string()),
            "warmup": spec.warmup,
            "steps": spec.steps,
            "image": config.image,
            "model": config.model,
            "results": results,
        }),
    )
}

fn print_profile(batch_size: usize, profile: &Profile) {
    let Profile {
        launches,
        busy_ms,
        span_ms,
        kernels,
    } = profile;
    out!("batch size {batch_size}: {launches:.1} launches per step");
    if let Some((busy, span)) = busy_ms.zip(*span_ms) {
        out!("at least one kernel runs in {busy:.2} of {span:.2} ms per step");
    }
    out!(
        "{:>8} {:>9} {:>6}  {:<28} problem",
        "launches",
        "ms",
        "share",
        "kernel"
    );
    for kernel in kernels {
        let (ms, share) = match kernel.ms.zip(*busy_ms) {
            Some((ms, busy)) => {
                let share = 100.0 * ms / busy.max(f64::MIN_POSITIVE);
                (format!("{ms:.3}"), format!("{share:.1}%"))
            }
            None => ("-".into(), "-".into()),
        };
        let problem = kernel.problem.as_deref().unwrap_or("-");
        out!(
            "{:>8.1} {ms:>9} {share:>6}  {:<28} {problem}",
            kernel.launches,
            kernel.kernel
        );
    }
}

/// Runs [`benchmark_graph`] and prints its results as a table.
fn graph(
    args: &BenchmarkArgs,
    spec: &BenchmarkSpec,
    config: &Config,
    model: Option<MaskRcnn>,
    backend: &Selected,
) -> Result<()> {
    let mut report = |line: &str| note!("{line}");
    let results = benchmark_graph(spec, config, model, &backend.device, &mut report)?;
    out!(
        "{:>6} {:>11} {:>17} {:>17} {:>7}",
        "batch",
        "padded",
        "launched p50 ms",
        "replayed p50 ms",
        "ratio"
    );
    for result in &results {
        let (launched, replayed) = (result.launched_ms.p50, result.replayed_ms.p50);
        out!(
            "{:>6} {:>11} {launched:>17.1} {replayed:>17.1} {:>7.2}",
            result.batch_size,
            format!("{}x{}", result.padded.0, result.padded.1),
            launched / replayed
        );
    }
    write_json(
        args.json.as_deref(),
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "mode": spec.mode,
            "graph": true,
            "backend": backend.kind,
            "device": backend.name,
            "precision": spec.precision.precision(),
            "warmup": spec.warmup,
            "steps": spec.steps,
            "image": config.image,
            "model": config.model,
            "results": results,
        }),
    )
}

/// Runs [`benchmark_kernels`] and prints its results as a table.
fn kernels(args: &BenchmarkArgs) -> Result<()> {
    ensure!(
        args.weights.is_none() && args.data.is_none(),
        "kernels are timed with random numbers; remove --weights and --data"
    );
    let config = load_config(args.config.as_deref())?.with(&args.overrides.set)?;
    let backend = args.backend.select()?;
    let precision = args.backend.precision(&backend, false)?;
    print_precision(precision);
    let mut reports = Vec::new();
    for &batch_size in &args.batch_size {
        let spec = KernelSpec {
            batch_size,
            warmup: args.warmup,
            steps: args.steps,
            dtype: precision.dtype(),
            only: args.only.clone(),
        };
        let mut report = |line: &str| note!("{line}");
        let report = benchmark_kernels(&spec, &config, &backend.device, &mut report)?;
        print_kernels(batch_size, &report);
        reports.push(json!({ "batch_size": batch_size, "report": report }));
    }
    write_json(
        args.json.as_deref(),
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "mode": "kernels",
            "backend": backend.kind,
            "device": backend.name,
            "precision": precision.precision(),
            "warmup": args.warmup,
            "steps": args.steps,
            "image": config.image,
            "model": config.model,
            "results": reports,
        }),
    )
}

fn print_kernels(batch_size: usize, report: &KernelReport) {
    out!(
        "batch size {batch_size}; matrix product {:.0} GFLOP/s, copy {:.1} GB/s",
        report.rates.gflop_per_second,
        report.rates.gb_per_second
    );
    out!(
        "{:<26} {:<42} {:>6} {:>10} {:>10} {:>9} {:>9} {:>7}",
        "kernel",
        "problem",
        "layers",
        "p50 ms",
        "floor ms",
        "GB/s",
        "GFLOP/s",
        "floor"
    );
    for result in &report.kernels {
        let ms = result.ms.p50;
        out!(
            "{:<26} {:<42} {:>6} {ms:>10.3} {:>10.3} {:>9.1} {:>9.0} {:>6.0}%",
            result.kernel,
            result.problem,
            result.layers,
            result.floor_ms,
            result.bytes as f64 / (ms * 1e6),
            result.flops as f64 / (ms * 1e6),
            100.0 * result.floor_ms / ms
        );
    }
}

fn write_json(path: Option<&Path>, text: serde_json::Value) -> Result<()> {
    if let Some(path) = path {
        let text = serde_json::to_string_pretty(&text)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
