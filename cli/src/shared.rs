//! Arguments that several commands share.

use crate::terminal::note;
use crate::{profile, stall};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use mrcnn_backends::{BackendKind, Precision, Resolved, Selected};
use mrcnn_core::Config;
use mrcnn_core::config::PRESETS;
use mrcnn_core::eval::AreaProtocol;
use mrcnn_core::predict::TtaSettings;
use mrcnn_core::select_device;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct BackendArgs {
    /// Backend, which selects the device
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendName,
    /// Dtype of activations and matrix products; `doctor` lists those that a device supports
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
}

/// A [`BackendKind`] with help.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendName {
    /// CUDA, then a GPU through wgpu, then the CPU: the first that this machine has
    Auto,
    /// The cores of the CPU
    Cpu,
    /// A GPU through Vulkan, Metal or DirectX 12
    Wgpu,
    /// A GPU through OpenGL, which is slow and can stall
    WgpuGl,
    /// An NVIDIA GPU through CUDA
    Cuda,
}

impl From<BackendName> for BackendKind {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Auto => Self::Auto,
            BackendName::Cpu => Self::Cpu,
            BackendName::Wgpu => Self::Wgpu,
            BackendName::WgpuGl => Self::WgpuGl,
            BackendName::Cuda => Self::Cuda,
        }
    }
}

/// A [`Precision`] with help.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionName {
    /// tf32 on CUDA GPUs from sm80 on, f16 on sm70 and sm75, otherwise f32
    Auto,
    /// 24 bits of significand
    F32,
    /// f32 in memory, 11 bits of significand in matrix products
    Tf32,
    /// 11 bits of significand, values up to 65504; training scales its losses
    F16,
    /// 8 bits of significand, with the range of f32
    Bf16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Auto => Self::Auto,
            PrecisionName::F32 => Self::F32,
            PrecisionName::Tf32 => Self::Tf32,
            PrecisionName::F16 => Self::F16,
            PrecisionName::Bf16 => Self::Bf16,
        }
    }
}

impl BackendArgs {
    /// Selects the device and prints it.
    pub fn select(&self) -> Result<Selected> {
        self.select_as(self.kind(), 0, true)
    }

    /// The precision on a device, auto by default; printed if `print`.
    pub fn precision(&self, backend: &Selected, print: bool) -> Result<Resolved> {
        let requested = self.precision.map_or(Precision::Auto, Precision::from);
        let precision = requested.resolve(&backend.device)?;
        if print {
            print_precision(precision);
        }
        Ok(precision)
    }

    /// The requested precision as an override of the configuration.
    pub fn precision_override(&self) -> Option<String> {
        let requested = Precision::from(self.precision?);
        Some(format!("train.precision={requested}"))
    }

    /// The requested backend.
    pub fn kind(&self) -> BackendKind {
        self.backend.into()
    }

    /// Selects the device for the process `local_rank` of this machine; printed if `print`.
    pub fn select_as(&self, kind: BackendKind, local_rank: usize, print: bool) -> Result<Selected> {
        let selected = select_device(kind, local_rank)?;
        if print {
            note!("backend: {selected}");
            if let Some(warning) = &selected.warning {
                note!("warning: {warning}");
            }
            if let Some(advice) = profile::advice(&selected) {
                note!("note: {advice}");
            }
        }
        stall::watch(&selected)?;
        Ok(selected)
    }
}

/// Prints the selected precision and the reason.
pub fn print_precision(precision: Resolved) {
    note!(
        "precision: {} ({})",
        precision.precision(),
        precision.reason()
    );
}

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

    /// The values of the options are the names that the configuration and the log use.
    #[test]
    fn backends_and_precisions_have_one_name() {
        fn named<N: ValueEnum, V: From<N>>() -> Vec<(String, V)> {
            let values = N::value_variants().iter().cloned();
            let named = values.filter_map(|value| {
                let name = value.to_possible_value()?.get_name().to_owned();
                Some((name, V::from(value)))
            });
            named.collect()
        }
        let backends = BackendKind::NAMES.map(|(name, kind)| (name.to_owned(), kind));
        assert_eq!(named::<BackendName, BackendKind>(), backends);
        let precisions = Precision::NAMES.map(|(name, precision)| (name.to_owned(), precision));
        assert_eq!(named::<PrecisionName, Precision>(), precisions);
    }
}
