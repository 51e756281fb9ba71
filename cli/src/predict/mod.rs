//! `mrcnn-cli predict`.

mod args;
mod draw;
mod filter;
mod images;
mod input;
mod inputs;
mod output;
mod records;
mod relabel;
mod remote;
mod run;
mod save;
mod throughput;
mod tile;
mod video;

pub use args::PredictArgs;

use crate::shared::free_folder;
use crate::terminal::note;
use crate::weights::RequiredPart;
use anyhow::{Context, Result, anyhow, bail};
use mrcnn_core::Predictor;
use relabel::Relabeling;
use run::Run;
use save::Saver;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub fn run(args: &PredictArgs) -> Result<()> {
    let drawing = args.drawing.options()?;
    let (split, offline) = (args.split.as_deref(), args.fetch.is_offline());
    let found = inputs::find(&args.images, split, args.recursive, offline)?;
    if let Some(video) = found.videos.first() {
        if args.resume || !found.images.is_empty() || !found.left_out.is_empty() {
            bail!(
                "{}: predict videos without images and without --resume",
                video.name()
            );
        }
        video::check_installed(video)?;
    }
    let weights = match &args.weights {
        Some(path) => path.clone(),
        None => newest_weights(Path::new("runs"))?,
    };
    let source = args.fetch.source(&weights, RequiredPart::Detector, true)?;
    let backend = args.model.backend.select()?;
    let precision = args.model.backend.precision(&backend, true)?;
    let mut builder = Predictor::builder()
        .weights(source)
        .overrides(&args.model.overrides.set)
        .device(&backend.device)
        .precision(precision.precision())
        .score(args.score);
    if let Some(config) = args.model.config()? {
        builder = builder.config(config);
    }
    if let Some(views) = args.model.views() {
        builder = builder.tta(views);
    }
    let predictor = builder.build()?;
    note!("weights: {}", weights.display());
    found.notes.iter().for_each(|note| note!("note: {note}"));
    let labels = match found.classes {
        Some(classes) => Some(Relabeling::new(&predictor, classes)?),
        None => None,
    };
    let classes = labels
        .as_ref()
        .map_or(predictor.classes(), |labels| labels.classes());
    args.filter.check(classes)?;
    draw::note_glyphs(&drawing, classes);
    let out = match args.resume {
        true => {
            std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
            args.out.clone()
        }
        false => free_folder(&args.out)?,
    };
    let run = Run {
        args,
        predictor: &predictor,
        labels,
        saver: Saver {
            out,
            forms: args.save.clone(),
            drawing,
        },
    };
    match found.videos.is_empty() {
        true => run.images(&found.images, &found.left_out),
        false => run.videos(&found.videos),
    }
}

/// The newest `best.safetensors` up to two folders below `runs`.
fn newest_weights(runs: &Path) -> Result<PathBuf> {
    let patterns = ["*/best.safetensors", "*/*/best.safetensors"];
    let found = patterns
        .iter()
        .filter_map(|pattern| glob::glob(&runs.join(pattern).to_string_lossy()).ok());
    let modified = |path: &PathBuf| {
        path.metadata()
            .and_then(|m| m.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    found
        .flatten()
        .filter_map(Result::ok)
        .max_by_key(modified)
        .ok_or_else(|| {
            anyhow!(
                "no weights: give --weights NAME (of a model that `mrcnn-cli models` lists) or FILE, or train first (no \
                 best.safetensors under runs/)"
            )
        })
}
