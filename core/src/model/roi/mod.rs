//! RoI heads: boxes and masks of RoIs, and the selection of detections.

pub(crate) mod box_head;
pub(crate) mod mask_head;
pub(crate) mod select;
