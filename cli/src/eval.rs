//! `mrcnn-cli eval`.

use crate::args::EvalArgs;
use crate::progress::bar;
use anyhow::{Context, Result, bail};
use mrcnn_core::data::{Dataset, detections_json, find_split};
use mrcnn_core::eval::{EvalOptions, evaluate_files};
use mrcnn_core::predict::Predictor;
use mrcnn_core::train::evaluate_model;
use std::path::Path;

pub fn run(args: &EvalArgs) -> Result<()> {
    match (&args.weights, &args.results) {
        (Some(weights), _) => evaluate_weights(args, weights),
        (None, Some(results)) => evaluate_results(args, results),
        (None, None) => bail!("give --weights FILE or --results FILE"),
    }
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
    println!(
        "{} against {}",
        results.display(),
        split.annotations.display()
    );
    println!("{metrics}");
    Ok(())
}

fn evaluate_weights(args: &EvalArgs, weights: &Path) -> Result<()> {
    let backend = args.model.backend.select()?;
    let config = args.model.config()?;
    let overrides = &args.model.overrides.set;
    let predictor = Predictor::load(weights, config, overrides, &backend.device)?;
    let data = &predictor.config().data;
    let dir = args.data.as_ref().unwrap_or(&data.dir);
    let split = args.split.as_ref().unwrap_or(&data.val);
    let (dataset, problems) = Dataset::open(dir, split, data.on_problem)?;
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    let bar = bar(
        dataset.samples.len(),
        "evaluating {bar:30} {pos}/{len} ETA {eta}",
    );
    let mut progress = |done, _| bar.set_position(done as u64);
    let (metrics, found) = evaluate_model(&predictor, &dataset, args.area.into(), &mut progress)?;
    bar.finish_and_clear();
    if let Some(path) = &args.json {
        let records: Vec<_> = found
            .iter()
            .flat_map(|(id, found)| detections_json(*id, None, found, &dataset.classes))
            .collect();
        let text = serde_json::to_string(&records)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let pictures = found.len();
    println!(
        "{pictures} pictures of {}\n{metrics}",
        dataset.annotations.display()
    );
    Ok(())
}
