//! Mask R-CNN on [Burn](https://burn.dev): the model, its training and evaluation, and prediction,
//! on CPU (`flex`), any GPU through wgpu, and CUDA.
//!
//! Data walks one way: [`image`] -> [`model`] (backbone, FPN, RPN, RoI heads) -> [`predict`] ->
//! [`detection`]; training adds [`data`], [`train`], [`eval`], [`report`] and [`benchmark`] (feature `train`).

#[cfg(feature = "train")]
pub mod benchmark;
pub mod boxes;
pub mod config;
#[cfg(feature = "convert")]
pub mod convert;
#[cfg(any(feature = "convert", feature = "train"))]
mod crc;
pub mod data;
pub mod detection;
#[cfg(feature = "train")]
pub mod eval;
pub mod image;
pub mod model;
pub mod predict;
pub mod random;
#[cfg(feature = "train")]
pub mod report;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;

pub use config::Config;
pub use detection::Detection;
pub use model::MaskRcnn;
pub use predict::Predictor;
