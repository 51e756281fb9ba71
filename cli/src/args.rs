//! The command line.

use crate::benchmark::BenchmarkArgs;
use crate::config::ConfigCommand;
use crate::convert::ConvertArgs;
use crate::dataset::{CHECK_EXAMPLES, CheckArgs, DatasetConvertArgs, PreviewArgs, StatsArgs};
use crate::doctor::DoctorArgs;
use crate::note;
use crate::ranks::RankArgs;
use crate::recipe::RecipeArgs;
use crate::stall;
use anyhow::{Context, Result, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum};
use mrcnn_backends::{BackendKind, Precision, Resolved, Selected};
use mrcnn_core::Config;
use mrcnn_core::config::PRESETS;
use mrcnn_core::eval::AreaProtocol;
use mrcnn_core::select_device;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

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
  mrcnn-cli dataset check ~/my_coco
  mrcnn-cli train --config nuclei --data ~/nuclei --out runs/nuclei
  mrcnn-cli eval --weights runs/nuclei/best.safetensors --data ~/nuclei
  mrcnn-cli predict --weights runs/nuclei/best.safetensors photos/*.jpg";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Render shapes, train on them, evaluate and draw the predictions: minutes on a processor.
    Quickstart(QuickstartArgs),
    /// Train on a data set in COCO format.
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(TrainArgs),
    /// Evaluate weights: COCO's 12 numbers for boxes and 12 for masks.
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),
    /// Find objects in images.
    #[command(after_help = PREDICT_EXAMPLES)]
    Predict(PredictArgs),
    /// Read weights of torchvision, Detectron2 or TensorFlow; write ours or torchvision's.
    Convert(ConvertArgs),
    /// Render, convert, check or look at a data set.
    Dataset {
        #[command(subcommand)]
        command: DatasetCommand,
    },
    /// Time training or inference: images a second, percentiles of the steps.
    Benchmark(BenchmarkArgs),
    /// Explain the settings of the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// What this machine and this build have, what is picked and why, what to install.
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub struct BackendArgs {
    /// Backend: auto takes CUDA, then a GPU through wgpu (Vulkan, Metal, DirectX 12), then the CPU;
    /// wgpu-gl is OpenGL, which is slow and can stall
    #[arg(long, default_value = "auto", value_parser = ["auto", "cpu", "wgpu", "wgpu-gl", "cuda"])]
    backend: String,
    /// What activations are kept in and multiplied in: auto takes tf32 on CUDA cards from sm80 on, f16
    /// on sm70 and sm75, else f32; `doctor` lists what a device can do
    #[arg(long, value_parser = ["auto", "f32", "tf32", "f16", "bf16"])]
    precision: Option<String>,
}

impl BackendArgs {
    /// Finds the device and says which it is.
    pub fn select(&self) -> Result<Selected> {
        self.select_as(self.kind()?, 0, true)
    }

    /// The precision on a device, auto unless one was asked for; `say` says which it is.
    pub fn precision(&self, backend: &Selected, say: bool) -> Result<Resolved> {
        let asked: Precision = self.precision.as_deref().unwrap_or("auto").parse()?;
        let precision = asked.resolve(&backend.device)?;
        if say {
            say_precision(precision);
        }
        Ok(precision)
    }

    /// As `--set` would say it.
    pub fn precision_override(&self) -> Option<String> {
        let asked = self.precision.as_deref()?;
        Some(format!("train.precision={asked}"))
    }

    /// What was asked for.
    pub fn kind(&self) -> Result<BackendKind> {
        Ok(self.backend.parse()?)
    }

    /// Finds the device of the process `local_rank` of this machine; `say` says which it is.
    pub fn select_as(&self, kind: BackendKind, local_rank: usize, say: bool) -> Result<Selected> {
        let selected = select_device(kind, local_rank)?;
        if say {
            note!("backend: {selected}");
            if let Some(warning) = &selected.warning {
                note!("warning: {warning}");
            }
        }
        stall::watch(&selected)?;
        Ok(selected)
    }
}

/// Says which precision was taken and why.
pub fn say_precision(precision: Resolved) {
    note!(
        "precision: {} ({})",
        precision.precision(),
        precision.reason()
    );
}

#[derive(Debug, Args)]
pub struct OverrideArgs {
    /// Changes one setting, e.g. --set train.steps=500; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// TOML file, or a preset: quickstart, nuclei, r50_fpn_1x_coco, r50_fpn_3x_coco,
    /// r50_fpn_reference
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Dataset folder or annotation file (data.dir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the images, where it does not follow from --data (data.images)
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Run folder; a number is added where it exists
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,
    /// Go on with the run in this folder from its newest checkpoint, by its args.toml
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "data", "images", "out", "weights", "seed"])]
    pub resume: Option<PathBuf>,
    /// Weights to start from: ours, torchvision's (a detector or a ResNet), Detectron2's or
    /// TensorFlow's; without --config their settings are taken too
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Seed of everything random (train.seed)
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    pub backend: BackendArgs,
    #[command(flatten)]
    pub ranks: RankArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
    /// How masks are sorted by size
    #[arg(long, value_enum, default_value = "mask")]
    pub area: Area,
}

const TRAIN_EXAMPLES: &str = "\
Examples:
  mrcnn-cli train --config quickstart --data shapes
  mrcnn-cli train --config my.toml --backend cuda --set train.learning_rate=0.01 --seed 3
  mrcnn-cli train --weights resnet50.pth --data mine --epochs 20 --eval-every 500 --patience 5
  mrcnn-cli train --config my.toml --gpus 8
  mpirun -np 4 mrcnn-cli train --config my.toml --backend cpu
  mrcnn-cli train --resume runs/train";

impl TrainArgs {
    /// Everything that changes a setting, `--set` last.
    pub fn overrides(&self) -> Vec<String> {
        let mut overrides = self.recipe.overrides();
        overrides.extend(self.backend.precision_override());
        overrides.extend(self.overrides.set.iter().cloned());
        overrides
    }

    /// The configuration: the file or preset, else that of the weights; then `--data`, `--seed` and
    /// `--set`.
    pub fn config(&self, weights: Option<&Config>) -> Result<Config> {
        let mut config = match (&self.config, weights) {
            (None, Some(weights)) => {
                let mut config = weights.clone();
                // The data's, and the device's.
                config.model.num_classes = 0;
                config.train.precision = Precision::Auto;
                config
            }
            (name, _) => load_config(name.as_deref())?,
        };
        if let Some(dir) = &self.data {
            config.data.dir = dir.clone();
            config.data.images = PathBuf::new();
        }
        if let Some(images) = &self.images {
            config.data.images = images.clone();
        }
        config.train.seed = self.seed.unwrap_or(config.train.seed);
        let config = config.with(&self.overrides())?;
        config.check()?;
        if config.data.dir.as_os_str().is_empty() {
            return Err(anyhow!(
                "no data set: give --data DIR or data.dir in the configuration"
            ));
        }
        Ok(config)
    }
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Weights of `train` or `convert`, or what `convert` reads
    #[arg(long, value_name = "FILE", required_unless_present = "results")]
    pub weights: Option<PathBuf>,
    /// Evaluates COCO results JSON, of any program, in place of weights
    #[arg(long, value_name = "FILE", conflicts_with_all = ["weights", "json", "backend", "precision", "gpus"])]
    pub results: Option<PathBuf>,
    /// Dataset folder or annotation file; else the one in the weights' configuration
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of the images, where it does not follow from --data
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Split to evaluate; else the configured one
    #[arg(long)]
    pub split: Option<String>,
    /// Writes the detections as COCO results JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub ranks: RankArgs,
    /// How masks are sorted by size
    #[arg(long, value_enum, default_value = "mask")]
    pub area: Area,
}

const EVAL_EXAMPLES: &str = "\
Examples:
  mrcnn-cli eval --weights runs/train/best.safetensors --data shapes
  mrcnn-cli eval --weights w.safetensors --data coco --split val --area box --json detections.json
  mrcnn-cli eval --results detections.json --data coco";

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// Images, folders of images, datasets, or patterns such as 'photos/**/*.jpg'
    #[arg(required = true, value_name = "IMAGES")]
    pub images: Vec<OsString>,
    /// Split of a dataset; else val, or the only one
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Reads the folders in folders too
    #[arg(long)]
    pub recursive: bool,
    /// Skips the images that are done in --out already
    #[arg(long)]
    pub resume: bool,
    /// Weights of `train` or `convert`, or what `convert` reads; else the newest best.safetensors under runs/
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Folder for the overlays, detections.json and images.json; a number is added where it exists
    #[arg(long, value_name = "DIR", default_value = "runs/predict")]
    pub out: PathBuf,
    /// Detections with a lower score are left out
    #[arg(long, default_value_t = 0.5)]
    pub score: f32,
    /// What is printed; the files are written either way
    #[arg(long, value_enum, default_value = "table")]
    pub format: PrintFormat,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// What `predict` and `doctor` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrintFormat {
    /// Lines for people
    Table,
    /// For programs; of `predict` COCO results, as in detections.json
    Json,
}

const PREDICT_EXAMPLES: &str = "\
Examples:
  mrcnn-cli predict photo.jpg
  mrcnn-cli predict photos 'more/**/*.png' --weights best.safetensors --score 0.7
  mrcnn-cli predict photo.jpg --set image.min_size=400 --backend wgpu
  mrcnn-cli predict shapes --split val --weights best.safetensors --score 0.05
  mrcnn-cli predict photo.jpg --format json | jq '.[].bbox'";

/// What `eval` and `predict` share.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// TOML file or preset in place of the configuration stored in the weights
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    #[command(flatten)]
    pub backend: BackendArgs,
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

impl ModelArgs {
    /// The configuration that replaces the stored one.
    pub fn config(&self) -> Result<Option<Config>> {
        self.config
            .as_deref()
            .map(|name| load_config(Some(name)))
            .transpose()
    }
}

#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Folder for data, run and image; a number is added where it exists
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    pub out: PathBuf,
    /// Seed of the scenes and of the training
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub backend: BackendArgs,
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Render scenes of overlapping circles, squares, triangles and stars.
    Shapes(ShapesArgs),
    /// List everything that would fail in training: file, id, reason, fix.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Turn LVIS, Pascal VOC, YOLO-seg or the reference system's TFRecords into a COCO folder.
    Convert(DatasetConvertArgs),
    /// Draw training images as the network sees them: after augmentation, with boxes and masks.
    Preview(PreviewArgs),
    /// Count image sizes, objects per image, areas and classes.
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
pub struct ShapesArgs {
    /// Folder to write; must be empty or new
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Images to train on
    #[arg(long, default_value_t = 600)]
    pub train: usize,
    /// Images to evaluate on
    #[arg(long, default_value_t = 100)]
    pub val: usize,
    /// Smallest and largest side in pixels
    #[arg(long, num_args = 2, value_names = ["MIN", "MAX"], default_values_t = [128, 192])]
    pub size: Vec<u32>,
    /// Most shapes an image, at least 2
    #[arg(long, default_value_t = 5)]
    pub objects: usize,
    /// Seed; the same one gives the same images
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// By which area masks are sorted into small, medium and large.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Area {
    /// The mask's own, as Detectron2
    Mask,
    /// The detection's box, as pycocotools where results have boxes
    Box,
}

impl From<Area> for AreaProtocol {
    fn from(area: Area) -> Self {
        match area {
            Area::Mask => Self::Mask,
            Area::Box => Self::Box,
        }
    }
}

/// A file, a preset where no such file exists, or the defaults.
pub fn load_config(name: Option<&str>) -> Result<Config> {
    let Some(name) = name else {
        return Ok(Config::default());
    };
    let path = Path::new(name);
    match PRESETS.iter().find(|(preset, _)| *preset == name) {
        Some((_, text)) if !path.exists() => Ok(Config::parse(text, path, &[])?),
        _ => Config::load(Some(path), &[]).context("--config"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_preset_loads() {
        for (name, _) in PRESETS {
            load_config(Some(name)).unwrap();
        }
    }
}
