//! `mrcnn-cli dataset preview`.

use crate::shared::{OverrideArgs, free_folder, load_config, seed_override};
use crate::terminal::out;
use anyhow::{Context, Result};
use clap::Args;
use mrcnn_core::data::{Dataset, OnProblem};
use mrcnn_core::train::preview;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PreviewArgs {
    /// Dataset folder
    dir: PathBuf,
    /// TOML file or preset, of which the image, augment and data sections are used; without it, the default settings
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Number of images: the first ones of a run
    #[arg(long, value_name = "N", default_value_t = 16)]
    count: usize,
    /// Seed of the run (train.seed)
    #[arg(long)]
    seed: Option<u64>,
    /// Folder for the images; a number is appended if it exists
    #[arg(long, value_name = "DIR", default_value = "runs/preview")]
    out: PathBuf,
    #[command(flatten)]
    overrides: OverrideArgs,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli dataset preview shapes --config quickstart --set augment.copy_paste=0.5
  mrcnn-cli dataset preview coco --set 'augment.scale_jitter=[0.1, 2.0]' --set augment.jitter_size=1024";

pub fn run(args: &PreviewArgs) -> Result<()> {
    let config = load_config(args.config.as_deref())?;
    let config = config.with(&args.overrides.append_to(seed_override(args.seed))?)?;
    config.check()?;
    // `dataset check` reports problems.
    let (dataset, _) = Dataset::open(&args.dir, &config.data.train, OnProblem::Skip)?;
    let out = free_folder(&args.out)?;
    let mut count = 0;
    for image in preview(Arc::new(dataset), &config, args.count)? {
        let (id, image) = image?;
        let path = out.join(format!("{count:04}_{id}.png"));
        image
            .save(&path)
            .with_context(|| path.display().to_string())?;
        count += 1;
    }
    out!("{count} images in {}", out.display());
    Ok(())
}
