//! The detection operators that Burn lacks: multi-level RoIAlign with its gradient, non-maximum
//! suppression, top-k selection and mask pasting.
//!
//! RoIAlign is a Burn operator (`Tensor` in, `Tensor` out, differentiable, on every backend); the
//! others work on host slices, because what they decide (which boxes survive) has a length that
//! depends on the data. The CPU version of each is the oracle that GPU kernels are tested against.
//!
//! Features: `flex` (CPU), `wgpu`, `cuda`, `fusion`.

pub mod conv3x3;
mod nms;
mod paste;
pub mod roi_align;
mod topk;

pub use conv3x3::conv3x3;
pub use nms::{batched_nms, nms};
pub use paste::{PastedMask, expand_box, paste_mask};
pub use roi_align::{PyramidLevel, RoiAlignParams, pack_pyramid, roi_align};
pub use topk::top_k;
