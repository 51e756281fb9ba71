//! `mrcnn-cli train`.

mod args;
mod recipe;

pub use args::TrainArgs;

use crate::backend::print_precision;
use crate::interrupt::{Requests, SAVING};
use crate::progress::Progress;
use crate::ranks::{reserved_folder, together};
use crate::terminal::{self, note, out};
use crate::weights::RequiredPart;
use anyhow::Result;
use mrcnn_backends::Selected;
use mrcnn_backends::comm::Communicator;
use mrcnn_core::Config;
use mrcnn_core::config::Choice;
use mrcnn_core::data::summarized;
use mrcnn_core::train::{Outcome, RunFolder, Trainer};
use mrcnn_core::weights::Transfer;
use std::path::Path;
use std::sync::Arc;

pub fn run(args: &TrainArgs) -> Result<u8> {
    if args.ranks.starts_workers()? {
        return supervise(args);
    }
    let (backend, comm) = args.ranks.join(&args.backend)?;
    together(&*comm, || match &args.resume {
        Some(folder) => resume(args, folder, &backend, comm.clone()),
        None => start(args, &backend, comm.clone()),
    })
}

/// Starts the processes of `--gpus`, with their logs in the run folder.
fn supervise(args: &TrainArgs) -> Result<u8> {
    let run = match &args.resume {
        Some(folder) => folder.clone(),
        // The lock is released, because rank 0 takes it.
        None => {
            let base = args.base()?;
            let named = args.initial_weights(&base)?;
            args.check_data(&base, named.as_deref())?;
            // The download runs here, once and with a progress bar, which the workers do not have.
            if let Some(named) = &named {
                args.fetch.source(named, RequiredPart::Backbone, true)?;
            }
            RunFolder::reserve(&args.out)?.path().to_path_buf()
        }
    };
    args.ranks.supervise(Some(&run))
}

fn start(args: &TrainArgs, backend: &Selected, comm: Arc<dyn Communicator>) -> Result<u8> {
    let is_lead = comm.rank() == 0;
    let base = args.base()?;
    let named = args.initial_weights(&base)?;
    args.check_data(&base, named.as_deref())?;
    let start = match &named {
        Some(named) => Some(
            args.fetch
                .source(named, RequiredPart::Backbone, is_lead)?
                .read(None)?,
        ),
        None => None,
    };
    let of_start = start.as_ref().map(|(start, _)| &start.config);
    let config = args.config(base, named.as_deref(), of_start)?;
    for difference in start
        .iter()
        .flat_map(|(start, _)| config.differences(&start.config))
        .filter(|_| is_lead)
    {
        note!("warning: {difference}");
    }
    let (device, protocol) = (&backend.device, args.area.into());
    let out = reserved_folder().unwrap_or_else(|| args.out.clone());
    let mut builder = Trainer::builder(config).folder(&out).device(device);
    if args.is_fine_tuning(start.as_ref().map(|(start, _)| start))? {
        builder = builder.fine_tuning(args.overrides()?);
    }
    let (trainer, problems) = builder.area(protocol).comm(comm).build()?;
    if is_lead {
        terminal::log_to(&trainer.folder().log());
    }
    warn(summarized(&problems).into_iter());
    let model = match start {
        Some((start, path)) => {
            let transfer = trainer.model_of(start, &path)?;
            if is_lead {
                match named.filter(|named| *named != path) {
                    Some(named) => {
                        note!("initial weights: {} ({})", named.display(), path.display())
                    }
                    None => note!("initial weights: {}", path.display()),
                }
                describe(&transfer);
            }
            transfer.model
        }
        None => trainer.new_model(),
    };
    announce(&trainer);
    let requests = Requests::catch(is_lead.then_some(SAVING));
    let mut progress = Progress::new(trainer.config().train.steps, is_lead, requests.clone());
    let outcome = trainer.run(model, &mut progress)?;
    Ok(report(&trainer, outcome, &requests))
}

fn resume(
    args: &TrainArgs,
    folder: &Path,
    backend: &Selected,
    comm: Arc<dyn Communicator>,
) -> Result<u8> {
    let is_lead = comm.rank() == 0;
    let (overrides, protocol) = (args.overrides()?, args.area.into());
    let builder = Trainer::builder(Config::default())
        .folder(folder)
        .device(&backend.device);
    let (trainer, saved, warnings) = builder.area(protocol).comm(comm).resume(&overrides)?;
    if is_lead {
        terminal::log_to(&trainer.folder().log());
    }
    warn(warnings.into_iter());
    announce(&trainer);
    if is_lead {
        note!("resuming from {}", saved.folder.display());
    }
    let requests = Requests::catch(is_lead.then_some(SAVING));
    let mut progress = Progress::new(trainer.config().train.steps, is_lead, requests.clone());
    let outcome = trainer.run_from(saved, &mut progress)?;
    Ok(report(&trainer, outcome, &requests))
}

/// Prints the classes and tensors that do not get their values from the initial weights.
fn describe(transfer: &Transfer) {
    let some = |names: &[String]| match names {
        [] => "none".into(),
        all if all.len() <= 8 => all.join(", "),
        all => format!("{}, ... ({} classes)", all[..6].join(", "), all.len()),
    };
    let (kept, fresh) = (&transfer.kept_classes, &transfer.fresh_classes);
    if !fresh.is_empty() {
        note!(
            "classes with the outputs of the weights, by name: {}; with new outputs: {}",
            some(kept),
            some(fresh)
        );
    }
    if let Some(first) = transfer.fresh.first() {
        let count = transfer.fresh.len();
        note!("{count} tensors keep their random initial values ({first}, ...)");
    }
}

fn announce(trainer: &Trainer) {
    if trainer.comm().rank() > 0 {
        return;
    }
    print_precision(trainer.precision());
    if !trainer.choices().is_empty() {
        let images = trainer.train_set().samples.len();
        note!("settings for {images} images (--recipe auto); options and --set take precedence:");
    }
    for Choice { key, value, reason } in trainer.choices() {
        note!("{key}={value}: {reason}");
    }
    let train = &trainer.config().train;
    let (ranks, batch) = (trainer.comm().world_size(), train.batch_size);
    if ranks > batch {
        let idle = ranks - batch;
        note!("warning: train.batch_size={batch} leaves {idle} of {ranks} ranks without images");
    }
    let (rate, scaled) = (train.learning_rate, train.scaled_learning_rate());
    if rate != scaled {
        let reference = train.lr_batch;
        note!("learning rate {rate} x {batch}/{reference} = {scaled} (train.lr_batch=0 keeps it)");
    }
    let (train_set, val_set) = (trainer.train_set(), trainer.val_set());
    note!(
        "training on {} images of {}",
        train_set.samples.len(),
        train_set.description()
    );
    note!(
        "evaluating on {} images of {}",
        val_set.samples.len(),
        val_set.description()
    );
    note!("results in {}", trainer.folder().path().display());
}

/// Prints how the run ended, and returns the exit status.
fn report(trainer: &Trainer, outcome: Outcome, requests: &Requests) -> u8 {
    let code = match outcome {
        Outcome::Finished(_) => 0,
        Outcome::Stopped(_) => requests.exit_code(),
    };
    if trainer.comm().rank() > 0 {
        return code;
    }
    let folder = trainer.folder().path().display();
    match outcome {
        Outcome::Finished(metrics) => {
            out!("{metrics}\n\nweights:  {folder}/best.safetensors, {folder}/last.safetensors");
            out!("curves:   {folder}/curves.svg\nimages:   {folder}/val_predictions/");
            if trainer.config().log.report {
                out!("report:   {folder}/report.html");
            }
            out!("predict:  mrcnn-cli predict IMAGES --weights {folder}/best.safetensors");
        }
        Outcome::Stopped(checkpoint) => {
            out!("stopped; saved {}", checkpoint.display());
            out!("resume:   mrcnn-cli train --resume {folder}");
        }
    }
    code
}

/// Prints the first ten problems of a dataset: samples that were left out, and warnings.
fn warn(lines: impl ExactSizeIterator<Item = String>) {
    const SHOWN: usize = 10;
    let more = lines.len().saturating_sub(SHOWN);
    for line in lines.take(SHOWN) {
        note!("{line}");
    }
    if more > 0 {
        note!("... and {more} more: see `mrcnn-cli dataset check DIR`");
    }
}
