//! Mask R-CNN (He et al., 2017) with a ResNet-FPN backbone, part by part.
//!
//! Parameter names are torchvision's (`backbone.body.layer1.0.conv1.weight`), so weights map without
//! a table.

mod box_head;
mod fpn;
mod init;
mod layers;
mod mask_head;
mod mask_rcnn;
mod norm;
mod proposals;
mod resnet;
mod rpn;
mod slots;

pub use box_head::{BoxHead, BoxPredictor, ScoredBox, postprocess};
pub use fpn::Fpn;
pub use layers::{Conv2d, Linear};
pub use mask_head::{MaskHead, MaskPredictor, mask_probabilities};
pub use mask_rcnn::{BackboneFpn, MaskRcnn, PackedPyramid, Roi, RoiHeads};
pub use norm::Norm;
pub use proposals::{Proposal, filter_proposals};
pub use resnet::ResNet;
pub use rpn::{Rpn, RpnOutput};
pub use slots::{
    AnchorSlots, BoxSlots, DetectionSlots, filter_proposal_slots, picture_sizes, postprocess_slots,
    roi_rows,
};
