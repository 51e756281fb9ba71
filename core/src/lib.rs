//! Mask R-CNN on [Burn](https://burn.dev): model, training, evaluation and prediction, on the CPU (`flex`), any GPU
//! through wgpu, and CUDA.
//!
//! # Predicting
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(folder.path())?;
//! # let small = [
//! #     "model.backbone=resnet18", "model.width=8", "model.fpn_channels=16", "model.num_classes=3",
//! #     "model.box_head.hidden=32", "model.mask_head.convs=[16]", "model.mask_head.hidden=16",
//! #     "image.min_size=96",
//! # ];
//! # let config = mrcnn_core::Config::default().with(&small)?;
//! # let device = mrcnn_core::backends::select(mrcnn_core::BackendKind::Auto)?.device;
//! # let model = mrcnn_core::MaskRcnn::new(&config.model, 1, &device);
//! # let classes = mrcnn_core::data::Classes { names: vec!["cat".into()], ids: vec![1] };
//! # mrcnn_core::weights::save("best.safetensors".as_ref(), &model, &config, &classes, None)?;
//! # mrcnn_core::image::RgbImage::new(64, 48).save("photo.png")?;
//! use mrcnn_core::{Predictor, image::decode::decode};
//!
//! let predictor = Predictor::builder().weights("best.safetensors").build()?;
//! let image = decode("photo.png")?;
//! let prediction = predictor.predict(&image)?;
//! for object in &prediction {
//!     println!("{} {:.2} {:?}", object.name, object.score, object.bbox);
//! }
//! # let coco = serde_json::to_string(&prediction.to_coco(1))?;
//! # assert!(coco.starts_with('['));
//! prediction.draw(&image).save("prediction.png")?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Prediction`] has boxes in pixels of the image, class names, scores and masks ([`Detection::mask`] as run lengths,
//! [`Detection::bitmap`], [`Detection::polygons`]), and exports COCO results. [`Predictor::predict_batch`] predicts
//! several images; the `_async` variants do not block. A predictor can be shared between threads.
//!
//! # Training
//!
//! `train::Trainer` trains on COCO files, or on any [`data::DatasetSource`]; a `train::Observer` receives every step
//! and can stop the run. The examples `finetune_coco` and `custom_dataset` are complete programs. [`model`] shows how
//! to use parts of the network.
//!
//! # Data flow
//!
//! ```text
//! file ── image::decode ──▶ RgbImage ── image::transform ──▶ [n, 3, h, w]
//!                                                                │
//!            ┌──────────────────────── model::MaskRcnn ──────────▼──────────────┐
//!            │  backbone: ResNet ─▶ FPN ─▶ P2..P6 ──▶ rpn ─▶ proposals          │
//!            │                              │                    │              │
//!            │                              └──── RoIAlign ◀─────┘              │
//!            │                                       │                          │
//!            │                      roi_heads: boxes ─▶ NMS ─▶ masks            │
//!            └───────────────────────────────────────┬──────────────────────────┘
//!                                                    ▼
//!         Predictor ──▶ Prediction: Detection { bbox, label, score, mask } ─▶ COCO, drawing
//!
//! data::Dataset ──▶ train::Trainer ──▶ run folder: weights, metrics, report        (feature `train`)
//!                        └── eval: COCO's 12 + 12 numbers
//! ```
//!
//! # Features
//!
//! | feature | what it adds | default |
//! |---|---|---|
//! | `flex` | the CPU, plain Rust; the only backend that needs no driver | yes |
//! | `wgpu` | any GPU through Vulkan, Metal, DirectX 12 or WebGPU | yes |
//! | `cuda` | NVIDIA GPUs; kernels are compiled by NVRTC at run time | no |
//! | `vulkan`, `metal` | `wgpu` with kernels in SPIR-V or MSL instead of WGSL | no |
//! | `fusion` | Burn fuses elementwise operations on wgpu and CUDA | yes |
//! | `train` | training, evaluation, reports, the rendered dataset, benchmarks | yes |
//! | `convert` | weights of torchvision, Detectron2 and TensorFlow | yes |
//! | `download` | pretrained models by name, with an HTTP client (`pretrained`) | no |
//! | `mpi` | ranks that communicate over MPI; needs Open MPI or MPICH and libclang to build | no |
//!
//! At least one of `flex`, `wgpu` and `cuda` is needed to compute. For prediction on the CPU only:
//! `mrcnn-core = { version = "0.1", default-features = false, features = ["flex"] }`.
//!
//! With `cuda`, a program outside this repository should use the repository's `backends/cubecl-llvm` as a
//! `[patch.crates-io]` of `cubecl-llvm`, or its build downloads an LLVM that is not used.
//!
//! Rust 1.95 or newer. Compiles to `wasm32-unknown-unknown` without `train` and `mpi`; there the program passes the
//! device and uses the `_async` methods.
#![warn(missing_docs)]
// A library does not print, and the print macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(feature = "train")]
pub mod benchmark;
pub mod boxes;
pub mod budget;
pub mod config;
#[cfg(any(feature = "convert", feature = "train"))]
mod crc;
pub mod data;
pub mod detection;
mod device;
mod disk;
#[cfg(feature = "train")]
pub mod eval;
#[cfg(feature = "train")]
pub mod evaluate;
#[cfg(all(feature = "convert", feature = "train"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod image;
#[cfg(feature = "train")]
mod memory;
pub mod model;
pub mod predict;
#[cfg(feature = "download")]
pub mod pretrained;
pub mod random;
#[cfg(feature = "train")]
pub mod report;
#[cfg(feature = "train")]
pub mod train;
pub mod weights;
#[cfg(any(feature = "convert", feature = "train"))]
mod yaml;

pub use config::Config;
pub use detection::Detection;
pub use device::select_device;
pub use model::MaskRcnn;
pub use predict::{Prediction, Predictor};

/// Tensors, devices and modules, in the version that this crate uses.
pub use burn;
pub use burn::tensor::Device;
/// Device selection, and communication between training processes.
pub use mrcnn_backends as backends;
pub use mrcnn_backends::BackendKind;
/// A mask as run lengths, column by column, as in COCO.
pub use vernier_mask::Rle;
