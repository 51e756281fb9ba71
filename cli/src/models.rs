//! `mrcnn-cli models`.

use crate::terminal::{note, out};
use crate::weights::{fetch_shown, megabytes};
use anyhow::{Result, bail};
use clap::Subcommand;
use mrcnn_core::pretrained::{FetchOptions, PretrainedModel, cached_path, find, models, verify};

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Download models into the cache, unless they are there already
    Fetch {
        /// Names of models
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print the path of a model's file in the cache, whether or not the file exists
    Path {
        /// Name of a model
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Compare the files in the cache with their SHA-256
    Verify,
}

pub const EXAMPLES: &str = "\
Examples:
  mrcnn-cli models
  mrcnn-cli models fetch maskrcnn_resnet50_fpn resnet50
  mrcnn-cli predict photo.jpg --weights maskrcnn_resnet50_fpn";

pub fn run(command: Option<&ModelsCommand>) -> Result<()> {
    let options = FetchOptions::from_env()?;
    match command {
        None => list(&options),
        Some(ModelsCommand::Fetch { names }) => {
            // All names are checked before anything is downloaded.
            let all: Vec<PretrainedModel> = names
                .iter()
                .map(|name| find(name))
                .collect::<Result<_, _>>()?;
            for model in &all {
                out!("{}", fetch_shown(model, &options, true)?.path().display());
            }
            Ok(())
        }
        Some(ModelsCommand::Path { name }) => {
            let path = cached_path(&find(name)?, &options);
            if !path.exists() {
                note!("{name} is not in the cache; `mrcnn-cli models fetch {name}` downloads it");
            }
            out!("{}", path.display());
            Ok(())
        }
        Some(ModelsCommand::Verify) => verify_all(&options),
    }
}

/// Prints a table of all models.
fn list(options: &FetchOptions) -> Result<()> {
    out!(
        "{:<28} {:>6} {:>7} {:>9}  {:<6}  {}",
        "name",
        "box AP",
        "mask AP",
        "size",
        "cached",
        "license of the weights"
    );
    for model in models()? {
        let ap = |value: Option<f64>| value.map_or("-".into(), |ap| format!("{ap:.1}"));
        let path = cached_path(&model, options);
        let stored = path.metadata().map(|file| file.len()).ok();
        let size = stored.or(model.size).map_or("?".into(), megabytes);
        let cached = if stored.is_some() { "yes" } else { "no" };
        out!(
            "{:<28} {:>6} {:>7} {size:>9}  {cached:<6}  {}",
            model.name,
            ap(model.box_ap),
            ap(model.mask_ap),
            model.license(),
        );
    }
    out!(
        "AP on COCO val2017 as published, in percent; models without AP are backbones to train from"
    );
    out!("cache: {}", options.folder.display());
    Ok(())
}

/// Checks every model that is in the cache.
fn verify_all(options: &FetchOptions) -> Result<()> {
    let (mut checked, mut wrong) = (0, 0);
    for model in models()? {
        let path = cached_path(&model, options);
        if !path.exists() {
            continue;
        }
        checked += 1;
        match verify(&model, &path) {
            Ok(digest) if model.sha256.is_none() => {
                out!(
                    "{}: no hash is published; its SHA-256 is {digest}",
                    model.name
                );
            }
            Ok(_) => out!("{}: correct", model.name),
            Err(error) => {
                out!("{}: {error}", model.name);
                wrong += 1;
            }
        }
    }
    match (checked, wrong) {
        (0, _) => out!("no model is in {}", options.folder.display()),
        (_, 0) => {}
        _ => bail!("{wrong} of {checked} files are damaged"),
    }
    Ok(())
}
