//! The configuration: every width, threshold and rate, read from TOML, with `key=value` overrides.
//!
//! Defaults are torchvision's `maskrcnn_resnet50_fpn`.

mod augment;
mod bounds;
mod check;
mod compare;
mod explain;
mod fine_tuning;
mod image;
mod logging;
mod model;
mod overrides;
mod presets;
mod size;
mod training;

pub use augment::AugmentConfig;
pub use bounds::{BOUNDS, Bounds, bounds};
pub use explain::{Explanation, explain};
pub use fine_tuning::Choice;
pub use image::{ChannelOrder, Depth, Fit, ImageConfig};
pub use logging::LogConfig;
pub use model::{
    Backbone, BoxHeadConfig, MaskHeadConfig, ModelConfig, NormKind, RoiConfig, RpnConfig,
};
pub use overrides::ConfigError;
pub use presets::PRESETS;
pub use training::{
    AutoScale, DataConfig, DecayScope, LossScale, OnProblem, OptimizerKind, Schedule, TrainConfig,
    Wire,
};

use serde::{Deserialize, Serialize};

/// All settings of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The network.
    pub model: ModelConfig,
    /// Conversion of images to tensors.
    pub image: ImageConfig,
    /// The dataset, and how problems in it are handled.
    pub data: DataConfig,
    /// The training recipe.
    pub train: TrainConfig,
    /// Augmentation of training images.
    pub augment: AugmentConfig,
    /// Files that a run writes.
    pub log: LogConfig,
}
