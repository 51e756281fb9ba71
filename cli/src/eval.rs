//! `mrcnn-cli eval`.

use crate::progress::bar;
use crate::ranks::{RankArgs, together};
use crate::shared::{Area, ModelArgs, check_dataset};
use crate::terminal::{note, out};
use crate::weights::{FetchArgs, RequiredPart};
use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use mrcnn_backends::Selected;
use mrcnn_backends::comm::Communicator;
use mrcnn_core::data::{
    Dataset, LeftOut, detections_json, find_split, open_split, printable, summarized,
};
use mrcnn_core::eval::{EvalOptions, evaluate_files};
use mrcnn_core::evaluate::evaluate_over_ranks;
use mrcnn_core::predict::Predictor;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    /// Weights of `train` or `convert`, any that `convert` reads, or the name of a pretrained model
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "results")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    fetch: FetchArgs,
    /// Evaluate COCO results JSON, of any program, instead of weights
    #[arg(long, value_name = "FILE", conflicts_with_all = ["weights", "json", "backend", "precision", "tta", "gpus"])]
    results: Option<PathBuf>,
    /// Dataset folder or annotation file; by default the one in the weights' configuration
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the images, needed if --data does not determine it
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Split to evaluate; by default the configured one
    #[arg(long)]
    split: Option<String>,
    /// Write the detections as COCO results JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    ranks: RankArgs,
    /// Area that groups masks by size
    #[arg(long, value_enum, default_value = "mask")]
    area: Area,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli eval --weights runs/train/best.safetensors --data shapes
  mrcnn-cli eval --weights maskrcnn_resnet50_fpn --data coco --split val --area box --json detections.json
  mrcnn-cli eval --results detections.json --data coco";

pub fn run(args: &EvalArgs) -> Result<u8> {
    if let Some(weights) = &args.weights
        && args.ranks.starts_workers()?
    {
        args.data.as_deref().map_or(Ok(()), check_dataset)?;
        // The download runs here, once and with a progress bar, which the workers do not have.
        args.fetch.source(weights, RequiredPart::Detector, true)?;
        return args.ranks.supervise(None);
    }
    match (&args.weights, &args.results) {
        (Some(weights), _) => {
            let (backend, comm) = args.ranks.join(&args.model.backend)?;
            together(&*comm, || evaluate_weights(args, weights, &backend, &*comm))
        }
        (None, Some(results)) => evaluate_results(args, results),
        (None, None) => bail!("give --weights FILE or --results FILE"),
    }?;
    Ok(0)
}

/// Evaluates a results file of any program.
fn evaluate_results(args: &EvalArgs, results: &Path) -> Result<()> {
    let config = args.model.config()?.unwrap_or_default();
    let config = config.with(&args.model.overrides.set)?;
    let dir = args.data.as_ref().unwrap_or(&config.data.dir);
    let split = args.split.as_ref().unwrap_or(&config.data.val);
    let split = find_split(dir, split)?;
    let options = EvalOptions {
        protocol: args.area.into(),
        ..EvalOptions::default()
    };
    let found = evaluate_files(&split.annotations, results, &options)?;
    found.notes.iter().for_each(|note| note!("note: {note}"));
    out!(
        "{} against {}",
        results.display(),
        split.annotations.display()
    );
    out!("{}", found.metrics);
    Ok(())
}

fn evaluate_weights(
    args: &EvalArgs,
    weights: &Path,
    backend: &Selected,
    comm: &dyn Communicator,
) -> Result<()> {
    let is_lead = comm.rank() == 0;
    args.data.as_deref().map_or(Ok(()), check_dataset)?;
    let config = args.model.config()?;
    let overrides = &args.model.overrides.set;
    let precision = args.model.backend.precision(backend, is_lead)?;
    let mut builder = Predictor::builder()
        .weights(
            args.fetch
                .source(weights, RequiredPart::Detector, is_lead)?,
        )
        .overrides(overrides)
        .device(&backend.device)
        .precision(precision.precision());
    if let Some(config) = config {
        builder = builder.config(config);
    }
    if let Some(views) = args.model.views() {
        builder = builder.tta(views);
    }
    let predictor = builder.build()?;
    let mut data = predictor.config().data.clone();
    if let Some(dir) = &args.data {
        data.dir = dir.clone();
        data.images = Default::default();
    }
    if let Some(images) = &args.images {
        data.images = images.clone();
    }
    let split = args.split.as_ref().unwrap_or(&data.val);
    let (mut dataset, problems) = open_split(&data, split)?;
    dataset.set_depth(predictor.config().image.depth);
    let bar = match is_lead {
        true => bar(
            dataset.samples.len(),
            "evaluating {bar:30} {pos}/{len} ETA {eta}",
        ),
        false => ProgressBar::hidden(),
    };
    if is_lead {
        summarized(&problems)
            .iter()
            .for_each(|line| note!("{line}"));
    }
    // Progress of this rank's shard, which is about as large as the others'.
    let mut progress = |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    };
    let protocol = args.area.into();
    let evaluation = evaluate_over_ranks(comm, &predictor, &dataset, protocol, &mut progress)?;
    let (metrics, found) = (evaluation.metrics, evaluation.detections);
    bar.finish_and_clear();
    dataset.left_out.extend(evaluation.left_out);
    let names: HashMap<u64, &str> = dataset
        .samples
        .iter()
        .map(|sample| (sample.image_id, sample.file_name.as_str()))
        .collect();
    let records: Vec<_> = match &args.json {
        Some(_) => found
            .iter()
            .flat_map(|(id, found)| {
                detections_json(*id, names.get(id).copied(), found, &dataset.classes)
            })
            .collect(),
        None => Vec::new(),
    };
    let shards = comm.all_gather_bytes(&serde_json::to_vec(&(found.len(), records))?)?;
    if !is_lead {
        return Ok(());
    }
    let (mut images, mut records) = (0, Vec::new());
    for shard in &shards {
        let (count, more): (usize, Vec<Box<RawValue>>) = serde_json::from_slice(shard)?;
        images += count;
        records.extend(more);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string(&records)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
        write_left_out(path, &dataset)?;
    }
    out!("{images} images of {}\n{metrics}", dataset.description());
    for image in &dataset.left_out {
        out!(
            "left out: image {}: {}",
            image.image_id,
            printable(&image.reason)
        );
    }
    Ok(())
}

/// COCO results cannot represent images without results, so images that were left out are written to a second file.
fn write_left_out(results: &Path, dataset: &Dataset) -> Result<()> {
    let path = results.with_extension("left_out.json");
    if dataset.left_out.is_empty() {
        return Ok(());
    }
    let entry = |image: &LeftOut| json!({"image_id": image.image_id, "file": image.path.display().to_string(), "reason": image.reason});
    let entries: Vec<_> = dataset.left_out.iter().map(entry).collect();
    let text = serde_json::to_string_pretty(&entries)?;
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}
