//! The command line: the program's commands.

use crate::benchmark::BenchmarkArgs;
use crate::completions::CompletionsArgs;
use crate::config::ConfigCommand;
use crate::convert::ConvertArgs;
use crate::dataset::DatasetCommand;
use crate::doctor::DoctorArgs;
use crate::eval::EvalArgs;
use crate::man::ManArgs;
#[cfg(feature = "download")]
use crate::models::{self, ModelsCommand};
use crate::predict::PredictArgs;
use crate::quickstart::QuickstartArgs;
use crate::train::TrainArgs;
use clap::{Parser, Subcommand};

/// Train, evaluate and run Mask R-CNN.
#[derive(Debug, Parser)]
#[command(name = "mrcnn-cli", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli quickstart
  mrcnn-cli doctor
  mrcnn-cli predict photo.jpg --weights maskrcnn_resnet50_fpn
  mrcnn-cli dataset check ~/my_coco
  mrcnn-cli train --config nuclei --data ~/nuclei --out runs/nuclei
  mrcnn-cli eval --weights runs/nuclei/best.safetensors --data ~/nuclei
  mrcnn-cli predict --weights runs/nuclei/best.safetensors photos/*.jpg";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try everything on rendered shapes: train, evaluate and draw predictions; minutes on a CPU.
    Quickstart(QuickstartArgs),
    /// Train on a dataset in COCO format.
    Train(TrainArgs),
    /// Evaluate weights: COCO's 12 metrics for boxes and 12 for masks.
    Eval(EvalArgs),
    /// Detect objects in images.
    Predict(PredictArgs),
    /// Convert torchvision, Detectron2 or TensorFlow weights to this program's format, or its weights to torchvision's.
    Convert(ConvertArgs),
    /// List pretrained models, which --weights takes by name, or download them.
    #[cfg(feature = "download")]
    #[command(after_help = models::EXAMPLES)]
    Models {
        #[command(subcommand)]
        command: Option<ModelsCommand>,
    },
    /// Render, convert, check or inspect a dataset.
    Dataset {
        #[command(subcommand)]
        command: DatasetCommand,
    },
    /// Time training or inference: images per second, percentiles of the step time.
    Benchmark(BenchmarkArgs),
    /// Explain the settings of the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show what this machine and this build support, what is selected and why, and what to install.
    Doctor(DoctorArgs),
    /// Print a shell completion script.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_valid() {
        Cli::command().debug_assert();
    }
}
