//! `mrcnn-cli eval`.

use crate::args::EvalArgs;
use crate::progress::bar;
use crate::ranks::together;
use crate::{note, out};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use mrcnn_backends::Selected;
use mrcnn_backends::comm::Communicator;
use mrcnn_core::data::{Dataset, detections_json, find_split};
use mrcnn_core::eval::{EvalOptions, evaluate_files};
use mrcnn_core::evaluate::evaluate_over_ranks;
use mrcnn_core::predict::Predictor;
use serde_json::value::RawValue;
use std::ops::ControlFlow;
use std::path::Path;

pub fn run(args: &EvalArgs) -> Result<u8> {
    if args.weights.is_some() && args.ranks.starts_workers()? {
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

/// Detections that are there already, of any program.
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
    let metrics = evaluate_files(&split.annotations, results, &options)?;
    out!(
        "{} against {}",
        results.display(),
        split.annotations.display()
    );
    out!("{metrics}");
    Ok(())
}

fn evaluate_weights(
    args: &EvalArgs,
    weights: &Path,
    backend: &Selected,
    comm: &dyn Communicator,
) -> Result<()> {
    let lead = comm.rank() == 0;
    let config = args.model.config()?;
    let overrides = &args.model.overrides.set;
    let precision = args.model.backend.precision(backend, lead)?;
    let mut builder = Predictor::builder()
        .weights(weights)
        .overrides(overrides)
        .device(&backend.device)
        .precision(precision.precision());
    if let Some(config) = config {
        builder = builder.config(config);
    }
    let predictor = builder.build()?;
    let data = &predictor.config().data;
    let dir = args.data.as_ref().unwrap_or(&data.dir);
    let split = args.split.as_ref().unwrap_or(&data.val);
    let (dataset, problems) = Dataset::open(dir, split, data.on_problem)?;
    let bar = match lead {
        true => bar(
            dataset.samples.len(),
            "evaluating {bar:30} {pos}/{len} ETA {eta}",
        ),
        false => ProgressBar::hidden(),
    };
    if lead {
        problems.iter().for_each(|problem| note!("{problem}"));
    }
    // Of this rank's share, which is about as large as the others'.
    let mut progress = |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    };
    let protocol = args.area.into();
    let (metrics, found) =
        evaluate_over_ranks(comm, &predictor, &dataset, protocol, &mut progress)?;
    bar.finish_and_clear();
    let records: Vec<_> = match &args.json {
        Some(_) => found
            .iter()
            .flat_map(|(id, found)| detections_json(*id, None, found, &dataset.classes))
            .collect(),
        None => Vec::new(),
    };
    let shares = comm.all_gather_bytes(&serde_json::to_vec(&(found.len(), records))?)?;
    if !lead {
        return Ok(());
    }
    let (mut pictures, mut records) = (0, Vec::new());
    for share in &shares {
        let (count, more): (usize, Vec<Box<RawValue>>) = serde_json::from_slice(share)?;
        pictures += count;
        records.extend(more);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string(&records)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    out!(
        "{pictures} pictures of {}\n{metrics}",
        dataset.annotations.display()
    );
    Ok(())
}
