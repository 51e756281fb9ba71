//! Arguments of `mrcnn-cli train`.

use super::recipe::RecipeArgs;
use crate::backend::BackendArgs;
use crate::ranks::RankArgs;
use crate::shared::{Area, OverrideArgs, check_dataset, load_config, seed_override};
use crate::weights::FetchArgs;
use anyhow::{Result, anyhow, ensure};
use clap::Args;
use mrcnn_backends::Precision;
use mrcnn_core::Config;
use mrcnn_core::weights::Checkpoint;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TrainArgs {
    /// TOML file, or a preset: quickstart, nuclei, r50_fpn_1x_coco, r50_fpn_3x_coco,
    /// r50_fpn_v2, r50_fpn_reference
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Dataset folder or annotation file (data.dir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the images, needed if --data does not determine it (data.images)
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Run folder; a number is appended if it exists
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,
    /// Resume the run in this folder from its newest checkpoint, with its args.toml
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "data", "images", "out", "weights", "seed"])]
    pub resume: Option<PathBuf>,
    /// Initial weights: the name of a pretrained model (see `models`), a file of this program, torchvision (a
    /// detector or a ResNet), Detectron2 or TensorFlow, or `none` for random ones (train.weights);
    /// without --config their settings are used too
    #[arg(long, value_name = "NAME|FILE")]
    weights: Option<String>,
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// Seed of all random numbers (train.seed)
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
    /// Area that groups masks by size
    #[arg(long, value_enum, default_value = "mask")]
    pub area: Area,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli train --config quickstart --data shapes
  mrcnn-cli train --config my.toml --backend cuda --set train.learning_rate=0.01 --seed 3
  mrcnn-cli train --weights maskrcnn_resnet50_fpn --data mine
  mrcnn-cli train --weights maskrcnn_resnet50_fpn --data mine --epochs 20 --eval-every 500 --patience 5
  mrcnn-cli train --config my.toml --gpus 8
  mpirun -np 4 mrcnn-cli train --config my.toml --backend cpu
  mrcnn-cli train --resume runs/train";

impl TrainArgs {
    /// Overrides of the configuration by the options and `--set`. Paths are not included; they are only checked against
    /// `--set`.
    ///
    /// # Errors
    ///
    /// If `--set` contradicts another option.
    pub fn overrides(&self) -> Result<Vec<String>> {
        self.overrides.check(&self.paths())?;
        let mut options = self.recipe.overrides();
        options.extend(seed_override(self.seed));
        options.extend(self.backend.precision_override());
        self.overrides.append_to(options)
    }

    /// The options that are paths, as `key=value`.
    fn paths(&self) -> Vec<String> {
        let options = [
            ("data.dir", self.data.as_deref()),
            ("data.images", self.images.as_deref()),
            ("train.weights", self.weights.as_deref().map(Path::new)),
        ];
        let setting =
            |(key, path): (&str, Option<&Path>)| Some(format!("{key}={}", path?.display()));
        options.into_iter().filter_map(setting).collect()
    }

    /// Whether the schedule is chosen by the number of images.
    pub fn is_fine_tuning(&self, weights: Option<&Checkpoint>) -> Result<bool> {
        let is_foreign = weights.is_some_and(|weights| weights.training.is_none());
        let is_auto = self.recipe.is_auto(is_foreign && self.config.is_none());
        ensure!(
            !is_auto || weights.is_some(),
            "--recipe auto freezes layers and trains briefly, which needs pretrained weights: add --weights FILE"
        );
        Ok(is_auto)
    }

    /// The configuration of `--config`, or the default one, without the options.
    pub fn base(&self) -> Result<Config> {
        load_config(self.config.as_deref())
    }

    /// The initial weights: those of `--weights`, otherwise `train.weights` of `--set` or of `base`.
    pub fn initial_weights(&self, base: &Config) -> Result<Option<PathBuf>> {
        let mut train = base.with(&self.overrides()?)?.train;
        if let Some(named) = &self.weights {
            train.weights = named.clone();
        }
        Ok(train.initial_weights().map(PathBuf::from))
    }

    /// Checks that there is a dataset before the `named` weights are downloaded. Weights in a file are not checked
    /// here: they are read without a download, and their configuration may name the dataset.
    pub fn check_data(&self, base: &Config, named: Option<&Path>) -> Result<()> {
        if named.is_none_or(Path::exists) {
            return Ok(());
        }
        let dir = match &self.data {
            Some(dir) => dir.clone(),
            None => base.with(&self.overrides()?)?.data.dir,
        };
        match dir.as_os_str().is_empty() {
            true => Err(no_dataset()),
            false => check_dataset(&dir),
        }
    }

    /// The configuration: with `--config` `base`, otherwise that of the weights; then the options and `--set`.
    /// `named` are the [`initial_weights`](Self::initial_weights), and `weights` is their configuration.
    pub fn config(
        &self,
        base: Config,
        named: Option<&Path>,
        weights: Option<&Config>,
    ) -> Result<Config> {
        let mut config = match (&self.config, weights) {
            (None, Some(weights)) => {
                let mut config = weights.clone();
                // They depend on the data and on the device.
                config.model.num_classes = 0;
                config.train.precision = Precision::Auto;
                config
            }
            _ => base,
        };
        if let Some(dir) = &self.data {
            config.data.dir = dir.clone();
            config.data.images = PathBuf::new();
        }
        if let Some(images) = &self.images {
            config.data.images = images.clone();
        }
        let mut config = config.with(&self.overrides()?)?;
        // The weights of this run, not those from which the given weights were trained.
        config.train.weights =
            named.map_or_else(String::new, |named| named.to_string_lossy().into());
        config.check()?;
        if config.data.dir.as_os_str().is_empty() {
            return Err(no_dataset());
        }
        Ok(config)
    }
}

fn no_dataset() -> anyhow::Error {
    anyhow!("no dataset: give --data DIR or data.dir in the configuration")
}
