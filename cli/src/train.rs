//! `mrcnn-cli train`.

use crate::args::{TrainArgs, say_precision};
use crate::progress::Progress;
use crate::ranks::together;
use anyhow::Result;
use mrcnn_backends::Selected;
use mrcnn_backends::comm::Communicator;
use mrcnn_core::Config;
use mrcnn_core::train::{Outcome, Trainer};
use mrcnn_core::weights;
use std::path::Path;
use std::sync::Arc;

pub fn run(args: &TrainArgs) -> Result<()> {
    if args.ranks.supervised()? {
        return Ok(());
    }
    let (backend, comm) = args.ranks.join(&args.backend)?;
    together(&*comm, || match &args.resume {
        Some(folder) => resume(args, folder, &backend, comm.clone()),
        None => start(args, &backend, comm.clone()),
    })
}

fn start(args: &TrainArgs, backend: &Selected, comm: Arc<dyn Communicator>) -> Result<()> {
    let lead = comm.rank() == 0;
    let start = args.weights.as_deref().map(weights::load).transpose()?;
    let config = args.config(start.as_ref().map(|start| &start.config))?;
    for difference in start
        .iter()
        .flat_map(|start| config.differences(&start.config))
        .filter(|_| lead)
    {
        eprintln!("warning: {difference}");
    }
    let (device, protocol) = (&backend.device, args.area.into());
    let builder = Trainer::builder(config).folder(&args.out).device(device);
    let (trainer, problems) = builder.area(protocol).comm(comm).build()?;
    warn(problems.iter().map(ToString::to_string));
    let mut model = trainer.new_model();
    if let (Some(path), Some(start)) = (&args.weights, start) {
        let transfer = weights::transfer(model, start.tensors, path)?;
        model = transfer.model;
        if lead && !transfer.fresh.is_empty() {
            let count = transfer.fresh.len();
            eprintln!("{count} tensors start anew ({}, ...)", transfer.fresh[0]);
        }
    }
    announce(&trainer);
    let mut progress = Progress::new(trainer.config.train.steps, lead);
    let outcome = trainer.run(model, &mut progress)?;
    report(&trainer, outcome);
    Ok(())
}

fn resume(
    args: &TrainArgs,
    folder: &Path,
    backend: &Selected,
    comm: Arc<dyn Communicator>,
) -> Result<()> {
    let lead = comm.rank() == 0;
    let (overrides, protocol) = (args.overrides(), args.area.into());
    let builder = Trainer::builder(Config::default())
        .folder(folder)
        .device(&backend.device);
    let (trainer, saved, said) = builder.area(protocol).comm(comm).resume(&overrides)?;
    warn(said.into_iter());
    announce(&trainer);
    if lead {
        eprintln!("from {}", saved.folder.display());
    }
    let mut progress = Progress::new(trainer.config.train.steps, lead);
    let outcome = trainer.go_on(saved, &mut progress)?;
    report(&trainer, outcome);
    Ok(())
}

fn announce(trainer: &Trainer) {
    if trainer.comm.rank() > 0 {
        return;
    }
    say_precision(trainer.precision);
    let train = &trainer.config.train;
    let (ranks, batch) = (trainer.comm.world_size(), train.batch_size);
    if ranks > batch {
        let idle = ranks - batch;
        eprintln!(
            "warning: train.batch_size={batch} leaves {idle} of {ranks} ranks without pictures"
        );
    }
    let (rate, scaled) = (train.learning_rate, train.scaled_learning_rate());
    if rate != scaled {
        let reference = train.lr_batch;
        eprintln!(
            "learning rate {rate} x {batch}/{reference} = {scaled} (train.lr_batch=0 keeps it)"
        );
    }
    eprintln!(
        "training on {} pictures, evaluating on {}, results in {}",
        trainer.train.samples.len(),
        trainer.val.samples.len(),
        trainer.folder.path().display()
    );
}

fn report(trainer: &Trainer, outcome: Outcome) {
    if trainer.comm.rank() > 0 {
        return;
    }
    let folder = trainer.folder.path().display();
    match outcome {
        Outcome::Finished(metrics) => {
            println!("{metrics}\n\nweights:  {folder}/best.safetensors, {folder}/last.safetensors");
            println!("curves:   {folder}/curves.svg\npictures: {folder}/val_predictions/");
            if trainer.config.log.report {
                println!("report:   {folder}/report.html");
            }
        }
        Outcome::Stopped(checkpoint) => {
            println!("stopped; saved {}", checkpoint.display());
            println!("go on:    mrcnn-cli train --resume {folder}");
        }
    }
}

/// Tells what was left out of a data set, or is broken.
fn warn(lines: impl ExactSizeIterator<Item = String>) {
    const SHOWN: usize = 10;
    let more = lines.len().saturating_sub(SHOWN);
    for line in lines.take(SHOWN) {
        eprintln!("{line}");
    }
    if more > 0 {
        eprintln!("... and {more} more: see `mrcnn-cli dataset check DIR`");
    }
}
