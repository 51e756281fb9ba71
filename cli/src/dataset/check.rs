//! `mrcnn-cli dataset check`.

use anyhow::{Result, bail};
use clap::Args;
use mrcnn_core::data::check;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Dataset folder, or an annotation file
    dir: PathBuf,
    /// Folder of the images, where it does not follow from DIR
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Lists every problem, and not one line for each kind
    #[arg(long)]
    all: bool,
}

pub const CHECK_EXAMPLES: &str = "\
Examples:
  mrcnn-cli dataset check ~/my_coco
  mrcnn-cli dataset check export/result.json --images export/images --all";

pub fn run(args: &CheckArgs) -> Result<()> {
    let report = check(&args.dir, args.images.as_deref())?;
    if args.all {
        report
            .problems
            .iter()
            .for_each(|problem| println!("{problem}"));
    }
    println!("{report}");
    match report.errors() {
        0 => Ok(()),
        errors => bail!("{}: {errors} errors; see above", args.dir.display()),
    }
}
