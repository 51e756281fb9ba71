//! How images become tensors.

use serde::{Deserialize, Serialize};

/// Order of an image's planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first: torchvision.
    #[default]
    Rgb,
    /// Blue first: Detectron2's models with an MSRA backbone.
    Bgr,
}

impl ChannelOrder {
    /// Which of R, G, B each plane holds.
    pub fn planes(self) -> [usize; 3] {
        match self {
            Self::Rgb => [0, 1, 2],
            Self::Bgr => [2, 1, 0],
        }
    }
}

/// How images of more than 8 bits per channel become 8 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// The upper 8 bits: right for images that fill their 16 bits.
    #[default]
    Full,
    /// The upper 8 of the bits that the image uses (8, 10, 12, 14 or 16): for cameras of 10 to 14 bits that
    /// store them in 16.
    Auto,
}

/// What an image is fitted into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The shorter side becomes `min_size` unless the longer one would exceed `max_size`: torchvision
    /// and Detectron2.
    #[default]
    ShorterSide,
    /// The image becomes as large as a box of `min_size` rows and `max_size` columns holds, and is
    /// padded to that box: the reference system. One shape for every batch, but upright images become
    /// small.
    Box,
}

/// How images become tensors (torchvision's `GeneralizedRCNNTransform`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// What an image is fitted into.
    pub fit: Fit,
    /// Length of the shorter side in pixels after resizing; the rows of the box with `fit = "box"`.
    pub min_size: u32,
    /// Largest length of the longer side; the columns of the box with `fit = "box"`.
    pub max_size: u32,
    /// Order of the planes: what the backbone was trained with.
    pub channels: ChannelOrder,
    /// How 16-bit images become 8 bits: `full` takes the upper 8 bits, `auto` those of the 10, 12 or 14 bits
    /// that an image uses.
    pub depth: Depth,
    /// Mean of R, G, B in `0..=1`.
    pub mean: [f32; 3],
    /// Standard deviation of R, G, B.
    pub std: [f32; 3],
    /// Batches are padded to a multiple of this.
    pub size_divisor: u32,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            fit: Fit::ShorterSide,
            min_size: 800,
            max_size: 1333,
            channels: ChannelOrder::Rgb,
            depth: Depth::Full,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            size_divisor: 32,
        }
    }
}
