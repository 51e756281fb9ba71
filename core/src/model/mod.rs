//! Mask R-CNN (He et al., 2017) with a ResNet-FPN backbone.
//!
//! Parameter names are torchvision's (`backbone.body.layer1.0.conv1.weight`), so weights map without
//! a table.
//!
//! The parts can be used alone: the backbone for features of another task, the heads on features and RoIs
//! of another network.
//!
//! ```
//! use mrcnn_core::burn::tensor::Tensor;
//! use mrcnn_core::model::{MaskRcnn, PackedPyramid, Rois};
//! use mrcnn_core::{BackendKind, Config, backends::select};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = select(BackendKind::Auto)?.device;
//! let small = ["model.backbone=resnet18", "model.width=8", "model.fpn_channels=16"];
//! let heads = ["model.num_classes=3", "model.box_head.hidden=32", "model.mask_head.convs=[16]"];
//! let config = Config::default().with(&small)?.with(&heads)?.model;
//! let MaskRcnn { backbone, roi_heads, .. } = MaskRcnn::new(&config, 0, &device);
//!
//! // The backbone alone: C2 to C5, or P2 to P6.
//! let images = Tensor::zeros([1, 3, 64, 96], &device);
//! let c5 = backbone.body.forward(images.clone())[3].clone();
//! assert_eq!(c5.dims(), [1, 64, 2, 3]);
//! let pyramid = backbone.forward(images);
//! assert_eq!(pyramid[0].dims(), [1, 16, 16, 24]);
//!
//! // The heads alone, on two RoIs of image 0 in pixels.
//! let packed = PackedPyramid::new(&pyramid, &config.roi);
//! let rois = [(0, [4.0, 4.0, 40.0, 30.0]), (0, [10.0, 0.0, 90.0, 60.0])];
//! let rois = Rois::new(&rois, &device);
//! let (logits, deltas) = roi_heads.boxes(packed.pool(&rois, config.box_head.pool));
//! assert_eq!((logits.dims(), deltas.dims()), ([2, 3], [2, 12]));
//! let masks = roi_heads.masks(packed.pool(&rois, config.mask_head.pool));
//! assert_eq!(masks.dims(), [2, 3, 28, 28]);
//! # Ok(())
//! # }
//! ```

mod backbone;
mod init;
mod layer;
mod layers;
mod mask_rcnn;
mod memory;
mod norm;
mod path;
mod prepare;
mod roi;
mod rpn;
mod slots;

pub use backbone::fpn::Fpn;
pub use backbone::resnet::ResNet;
pub use backbone::{BackboneFpn, Body};
pub use init::{Fill, Init};
pub use layers::{Conv2d, ConvSettings, Linear, LinearSettings};
pub use mask_rcnn::{Detections, Features, MASKS_AT_ONCE, MaskRcnn};
#[cfg(feature = "train")]
pub(crate) use memory::{FLOAT, bytes_of};
pub use norm::{Norm, NormSettings};
pub(crate) use path::ModulePath;
#[cfg(feature = "train")]
pub(crate) use prepare::{Changes, Prepared, channels_first_gradient};
pub use roi::RoiHeads;
pub use roi::box_head::{BoxHead, BoxHeadLayer, BoxPredictor, Flatten, LinearBoxHead};
#[cfg(feature = "train")]
pub(crate) use roi::mask_head::reorder_targets;
pub use roi::mask_head::{MaskHead, MaskPredictor, mask_probabilities};
pub use roi::pool::{PackedPyramid, Roi, Rois, roi_rows};
pub use roi::select::{DetectionSlots, ScoredBox, postprocess};
#[cfg(feature = "train")]
pub(crate) use rpn::head::AnchorPredictions;
pub use rpn::head::{Rpn, RpnOutput};
#[cfg(feature = "train")]
pub(crate) use rpn::head::{prefers_windows, window_side};
pub use rpn::proposals::{AnchorSlots, filter_proposals};
pub use slots::{BoxSlots, image_sizes};
#[cfg(feature = "train")]
pub(crate) use slots::{on, selection_device};
