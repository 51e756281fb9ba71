//! `mrcnn-cli train`.

use crate::args::TrainArgs;
use crate::progress::Progress;
use anyhow::Result;
use mrcnn_core::data::Problem;
use mrcnn_core::train::Trainer;
use mrcnn_core::weights;

pub fn run(args: &TrainArgs) -> Result<()> {
    let start = args.weights.as_deref().map(weights::load).transpose()?;
    let config = args.config(start.as_ref().map(|start| &start.config))?;
    for difference in start
        .iter()
        .flat_map(|start| config.differences(&start.config))
    {
        eprintln!("warning: {difference}");
    }
    let backend = args.backend.select()?;
    let (trainer, problems) =
        Trainer::prepare(config, &args.out, &backend.device, args.area.into())?;
    warn(&problems);
    let mut model = trainer.new_model();
    if let (Some(path), Some(start)) = (&args.weights, start) {
        let transfer = weights::transfer(model, start.tensors, path)?;
        model = transfer.model;
        if !transfer.fresh.is_empty() {
            let count = transfer.fresh.len();
            eprintln!("{count} tensors start anew ({}, ...)", transfer.fresh[0]);
        }
    }
    let folder = trainer.folder.path().display();
    eprintln!(
        "training on {} pictures, evaluating on {}, results in {folder}",
        trainer.train.samples.len(),
        trainer.val.samples.len()
    );
    let mut progress = Progress::new(trainer.config.train.steps);
    let metrics = trainer.run(model, &mut progress)?;
    println!("{metrics}\n\nweights:  {folder}/best.safetensors, {folder}/last.safetensors");
    println!("curves:   {folder}/curves.svg\npictures: {folder}/val_predictions/");
    Ok(())
}

/// Tells what was left out of a data set.
fn warn(problems: &[Problem]) {
    const SHOWN: usize = 10;
    for problem in problems.iter().take(SHOWN) {
        eprintln!("{problem}");
    }
    if problems.len() > SHOWN {
        let more = problems.len() - SHOWN;
        eprintln!("... and {more} more: see `mrcnn-cli dataset check DIR`");
    }
}
