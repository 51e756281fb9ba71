//! `mrcnn-cli eval`.

use crate::args::EvalArgs;
use crate::progress::bar;
use anyhow::{Context, Result, ensure};
use mrcnn_core::data::{Dataset, detections_json};
use mrcnn_core::predict::Predictor;
use mrcnn_core::train::evaluate_model;

pub fn run(args: &EvalArgs) -> Result<()> {
    let backend = args.model.backend.select()?;
    let config = args.model.config()?;
    let overrides = &args.model.overrides.set;
    let predictor = Predictor::load(&args.weights, config, overrides, &backend.device)?;
    let data = &predictor.config().data;
    let dir = args.data.as_ref().unwrap_or(&data.dir);
    let split = args.split.as_ref().unwrap_or(&data.val);
    let (dataset, problems) = Dataset::open(dir, split, data.on_problem)?;
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    ensure!(
        dataset.classes == *predictor.classes(),
        "{}: its categories {:?} are not those of the weights, {:?}",
        dataset.annotations.display(),
        dataset.classes.names,
        predictor.classes().names
    );
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
