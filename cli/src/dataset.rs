//! `mrcnn-cli dataset`.

mod check;
mod convert;
mod preview;
mod stats;

pub use check::{CHECK_EXAMPLES, CheckArgs};
pub use convert::DatasetConvertArgs;
pub use preview::PreviewArgs;
pub use stats::StatsArgs;

use crate::args::{DatasetCommand, ShapesArgs};
use crate::out;
use anyhow::{Result, ensure};
use mrcnn_core::data::shapes;

pub fn run(command: &DatasetCommand) -> Result<()> {
    match command {
        DatasetCommand::Shapes(args) => render(args),
        DatasetCommand::Check(args) => check::run(args),
        DatasetCommand::Convert(args) => convert::run(args),
        DatasetCommand::Preview(args) => preview::run(args),
        DatasetCommand::Stats(args) => stats::run(args),
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
        "--objects {}: an image has at least 2 shapes",
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
        "{} + {} images in {}",
        args.train,
        args.val,
        args.out.display()
    );
    Ok(())
}
