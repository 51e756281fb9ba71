//! The configuration: every width, threshold and rate, read from TOML, with `key=value` overrides.
//!
//! Defaults are torchvision's `maskrcnn_resnet50_fpn`.

mod augment;
mod bounds;
mod check;
mod compare;
mod explain;
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

/// Everything that describes a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The network.
    pub model: ModelConfig,
    /// How images become tensors.
    pub image: ImageConfig,
    /// Where the images are, and what to do with bad ones.
    pub data: DataConfig,
    /// The recipe.
    pub train: TrainConfig,
    /// How training images are varied.
    pub augment: AugmentConfig,
    /// What a run writes about itself.
    pub log: LogConfig,
}
