//! `mrcnn-cli dataset stats`.

use crate::terminal::out;
use anyhow::{Context, Result};
use clap::Args;
use mrcnn_core::data::{Dataset, OnProblem, Statistics, find_splits_in};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Dataset folder, or an annotation file
    dir: PathBuf,
    /// Folder of the images, needed if DIR does not determine it
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Also write the statistics as an HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(args: &StatsArgs) -> Result<()> {
    let mut all = Vec::new();
    for split in find_splits_in(&args.dir, args.images.as_deref())? {
        // `dataset check` lists what is left out here.
        let (dataset, _) = Dataset::open_files(&split, OnProblem::Skip)?;
        let statistics = Statistics::of(&split.name, &dataset);
        out!("{statistics}");
        all.push(statistics);
    }
    if let Some(path) = &args.html {
        let page = Statistics::html(&all);
        std::fs::write(path, page).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
