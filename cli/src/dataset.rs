//! `mrcnn-cli dataset`.

mod check;
mod convert;
mod preview;
mod shapes;
mod stats;

use anyhow::Result;
use check::CheckArgs;
use clap::Subcommand;
use convert::DatasetConvertArgs;
use preview::PreviewArgs;
use shapes::ShapesArgs;
use stats::StatsArgs;

#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Render scenes of overlapping circles, squares, triangles and stars.
    Shapes(ShapesArgs),
    /// List everything that would fail in training: file, id, reason, fix.
    Check(CheckArgs),
    /// Convert CVAT, labelme, VIA, LVIS, Pascal VOC, YOLO-seg or the reference system's TFRecords to a COCO folder.
    Convert(DatasetConvertArgs),
    /// Draw training images as the network receives them: after augmentation, with boxes and masks.
    Preview(PreviewArgs),
    /// Count image sizes, objects per image, areas and classes.
    Stats(StatsArgs),
}

pub fn run(command: &DatasetCommand) -> Result<()> {
    match command {
        DatasetCommand::Shapes(args) => shapes::run(args),
        DatasetCommand::Check(args) => check::run(args),
        DatasetCommand::Convert(args) => convert::run(args),
        DatasetCommand::Preview(args) => preview::run(args),
        DatasetCommand::Stats(args) => stats::run(args),
    }
}
