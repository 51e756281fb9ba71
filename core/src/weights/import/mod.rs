//! Import and export of other systems' weights.
//!
//! | from | files |
//! |---|---|
//! | torchvision `maskrcnn_resnet*_fpn`, classification ResNets | `.pth` (any age), `.safetensors` |
//! | Detectron2 Mask R-CNN, FPN | `.pkl`, `.pth` |
//! | the reference system, `resnet-nhwc-*` | `PREFIX.index`, `PREFIX.data-*` |
//! | this crate | `.safetensors` |
//!
//! Files are untrusted: lengths are checked before memory is allocated, and pickles are parsed,
//! never executed.

mod classes;
mod detectron2_config;
mod export;
mod formats;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod infer;
mod names_detectron2;
mod names_tensorflow;
mod names_torchvision;
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
pub use formats::{Format, ImportOptions, Imported, import};
