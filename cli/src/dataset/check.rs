//! `mrcnn-cli dataset check`.

use crate::terminal::out;
use anyhow::{Result, bail};
use clap::Args;
use mrcnn_core::data::import::repair;
use mrcnn_core::data::{check, summarized};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Dataset folder, or an annotation file
    dir: PathBuf,
    /// Folder of the images, needed if DIR does not determine it
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// List every problem instead of one line per kind
    #[arg(long)]
    all: bool,
    /// Write a repaired copy to the new folder OUT and list every change; DIR is not changed
    #[arg(long, value_name = "OUT")]
    fix: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli dataset check ~/my_coco
  mrcnn-cli dataset check export/result.json --images export/images --all
  mrcnn-cli dataset check ~/my_coco --fix ~/my_coco_fixed";

pub fn run(args: &CheckArgs) -> Result<()> {
    let images = args.images.as_deref();
    if let Some(out) = &args.fix {
        return fix(&args.dir, images, out, args.all);
    }
    let report = check(&args.dir, images)?;
    if args.all {
        report.problems.iter().for_each(|problem| out!("{problem}"));
    }
    out!("{report}");
    match report.errors() {
        0 => Ok(()),
        errors => bail!("{}: {errors} errors; see above", args.dir.display()),
    }
}

fn fix(dir: &Path, images: Option<&Path>, out: &Path, all: bool) -> Result<()> {
    for repaired in repair(dir, images, out)? {
        match all {
            true => repaired.changes.iter().for_each(|change| out!("{change}")),
            false => summarized(&repaired.changes)
                .iter()
                .for_each(|line| out!("{line}")),
        }
        let split = &repaired.split;
        out!(
            "{}: {} images, {} objects; warnings are repaired, errors are left out",
            split.split,
            split.images,
            split.objects
        );
    }
    out!("check it: mrcnn-cli dataset check {}", out.display());
    Ok(())
}
