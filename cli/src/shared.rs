//! Arguments that several commands share.

use crate::backend::BackendArgs;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use mrcnn_core::Config;
use mrcnn_core::config::PRESETS;
use mrcnn_core::eval::AreaProtocol;
use mrcnn_core::predict::TtaSettings;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct OverrideArgs {
    /// Change one setting, e.g. --set train.steps=500; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl OverrideArgs {
    /// The `key=value` settings of other options, followed by those of `--set`.
    ///
    /// # Errors
    ///
    /// If `--set` gives one of them another value, because one of the two would be ignored.
    pub fn append_to(&self, options: impl IntoIterator<Item = String>) -> Result<Vec<String>> {
        let mut settings: Vec<String> = options.into_iter().collect();
        self.check(&settings)?;
        settings.extend(self.set.iter().cloned());
        Ok(settings)
    }

    /// The check of [`Self::append_to`] alone, for options that do not change the configuration through `key=value`.
    pub fn check(&self, options: &[String]) -> Result<()> {
        for option in options {
            for set in &self.set {
                ensure!(
                    !contradict(option, set),
                    "--set {set} contradicts another option, which sets {option}; remove --set {set} or that option"
                );
            }
        }
        Ok(())
    }
}

/// Whether two `key=value` settings give a key different values.
fn contradict(a: &str, b: &str) -> bool {
    match (a.split_once('='), b.split_once('=')) {
        (Some((key_a, a)), Some((key_b, b))) => {
            let value = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
            key_a.trim() == key_b.trim() && value(a) != value(b)
        }
        _ => false,
    }
}

/// `--seed` as an override of the configuration.
pub fn seed_override(seed: Option<u64>) -> Option<String> {
    Some(format!("train.seed={}", seed?))
}

/// Arguments that `eval` and `predict` share.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// TOML file or preset instead of the configuration stored in the weights
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Test-time augmentation: detect each image in six views (1, 0.8 and 1.25 times image.min_size, each as it is and
    /// mirrored) and merge the detections; takes about seven times as long
    #[arg(long)]
    tta: bool,
    #[command(flatten)]
    pub backend: BackendArgs,
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

impl ModelArgs {
    /// The views of test-time augmentation, if it is requested.
    pub fn views(&self) -> Option<TtaSettings> {
        self.tta.then(TtaSettings::default)
    }

    /// The configuration that replaces the stored one.
    pub fn config(&self) -> Result<Option<Config>> {
        self.config
            .as_deref()
            .map(|name| load_config(Some(name)))
            .transpose()
    }
}

/// Output format of `predict` and `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrintFormat {
    /// Human-readable lines
    Table,
    /// JSON for programs; for `predict`, COCO results as in detections.json
    Json,
}

/// Area that groups masks into small, medium and large.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Area {
    /// The mask's own area, as in Detectron2
    Mask,
    /// The area of the detection's box, as in pycocotools if results have boxes
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

/// Loads a configuration file, a preset if no such file exists, or the defaults without a name.
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

/// Checks that a dataset exists. Its contents are checked after the weights are loaded, which may be a long download.
pub fn check_dataset(dir: &Path) -> Result<()> {
    ensure!(
        dir.exists(),
        "{}: no such dataset: --data and data.dir name a folder or an annotation file",
        dir.display()
    );
    Ok(())
}

/// Creates the folder, or `-2`, `-3` and so on if it is in use.
pub fn free_folder(path: &Path) -> Result<PathBuf> {
    let path = mrcnn_core::train::free_name(path);
    std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_loads() {
        for (name, _) in PRESETS {
            load_config(Some(name)).unwrap();
        }
    }
}
