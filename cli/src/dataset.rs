//! `mrcnn-cli dataset`.

mod convert;
mod preview;

pub use convert::DatasetConvertArgs;
pub use preview::PreviewArgs;

use crate::args::{DatasetCommand, ShapesArgs};
use crate::out;
use anyhow::{Result, bail, ensure};
use mrcnn_core::data::{check, shapes};
use std::path::Path;

pub fn run(command: &DatasetCommand) -> Result<()> {
    match command {
        DatasetCommand::Shapes(args) => render(args),
        DatasetCommand::Check { dir } => check_folder(dir),
        DatasetCommand::Convert(args) => convert::run(args),
        DatasetCommand::Preview(args) => preview::run(args),
    }
}

fn render(args: &ShapesArgs) -> Result<()> {
    let [size_min, size_max] = [args.size[0], args.size[1]];
    ensure!(
        (32..=4096).contains(&size_min) && (size_min..=4096).contains(&size_max),
        "--size {size_min} {size_max}: give two sides from 32 to 4096, the smaller first"
    );
    ensure!(
        args.objects >= 2,
        "--objects {}: a picture has 2 shapes at least",
        args.objects
    );
    ensure!(
        mrcnn_core::train::free_name(&args.out) == args.out,
        "{}: it is not empty; give a new folder",
        args.out.display()
    );
    let spec = shapes::ShapesSpec {
        train: args.train,
        val: args.val,
        size_min,
        size_max,
        max_objects: args.objects,
        seed: args.seed,
    };
    shapes::render(&args.out, &spec)?;
    out!(
        "{} + {} pictures in {}",
        args.train,
        args.val,
        args.out.display()
    );
    Ok(())
}

fn check_folder(dir: &Path) -> Result<()> {
    let report = check(dir)?;
    out!("{report}");
    match report.errors() {
        0 => Ok(()),
        errors => bail!("{}: {errors} errors; see above", dir.display()),
    }
}
