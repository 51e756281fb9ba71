//! Import and export of other systems' weights.
//!
//! | from | files |
//! |---|---|
//! | torchvision `maskrcnn_resnet*_fpn`, classification ResNets | `.pth` (any age), `.safetensors` |
//! | Detectron2 Mask R-CNN, FPN; its backbones `R-50`, `R-101`, `X-101-32x8d` | `.pkl`, `.pth` |
//! | the reference system, `resnet-nhwc-*` | `PREFIX.index`, `PREFIX.data-*` |
//! | this crate | `.safetensors` |
//!
//! Files are untrusted: lengths are checked before memory is allocated, and pickles are parsed,
//! never executed.

mod classes;
mod detectron2_config;
mod export;
mod formats;
#[cfg(feature = "train")]
pub(crate) mod fuzzing;
mod imported;
mod infer;
mod names_caffe2;
mod names_detectron2;
mod names_tensorflow;
mod names_torchvision;
mod of_detectron2;
mod pickle;
mod pickle_calls;
mod prefix;
mod table;
mod tensorflow;
mod torch;
mod views;

pub use classes::{coco_80, coco_91, numbered};
pub use detectron2_config::Detectron2Config;
pub use export::export_torchvision;
pub use formats::import;
pub use imported::{Format, ImportOptions, Imported};
