//! Settings of the conversion from images to tensors.

use serde::{Deserialize, Serialize};

/// Order of an image's channels.
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
    /// Index of R, G or B for each channel.
    pub fn planes(self) -> [usize; 3] {
        match self {
            Self::Rgb => [0, 1, 2],
            Self::Bgr => [2, 1, 0],
        }
    }
}

/// Conversion of images with more than 8 bits per channel to 8 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// The upper 8 bits: for images that use all 16 bits.
    #[default]
    Full,
    /// The upper 8 of the bits that the image uses (8, 10, 12, 14 or 16): for cameras with 10 to 14 bits that
    /// are stored in 16.
    Auto,
}

/// Resizing of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The shorter side becomes `min_size` unless the longer one would exceed `max_size`: torchvision
    /// and Detectron2.
    #[default]
    ShorterSide,
    /// The image is resized to the largest size that fits into `min_size` rows and `max_size` columns, and
    /// padded to that box, as in the reference system. All batches have one shape, but portrait images become
    /// small.
    Box,
}

/// Conversion of images to tensors (torchvision's `GeneralizedRCNNTransform`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// Resizing: by the length of the sides (`shorter_side`), or into a box (`box`).
    pub fit: Fit,
    /// Length of the shorter side in pixels after resizing; the rows of the box with `fit = "box"`.
    pub min_size: u32,
    /// Maximum length of the longer side; the columns of the box with `fit = "box"`.
    pub max_size: u32,
    /// Order of the channels that the backbone was trained with.
    pub channels: ChannelOrder,
    /// Conversion of 16-bit images to 8 bits: `full` keeps the upper 8 bits, `auto` those of the 10, 12 or 14 bits
    /// that an image uses.
    pub depth: Depth,
    /// Mean of R, G, B in `0..=1`.
    pub mean: [f32; 3],
    /// Standard deviation of R, G, B.
    pub std: [f32; 3],
    /// Height and width of a batch are padded to a multiple of this number of pixels.
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
