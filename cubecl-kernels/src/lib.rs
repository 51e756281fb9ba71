//! The detection operators that Burn lacks: multi-level RoIAlign with its gradient, box decoding,
//! non-maximum suppression, top-k selection, matching, sampling, mask targets and pasting. Also
//! convolutions, group norm, max pool, feature-pyramid sums, losses, prepared weights (cast, norms folded), the
//! gradient norm and optimizer updates, for cases in which Burn's operations are slow or wrong.
//!
//! Operators on tensors run on every backend with static shapes: selected boxes are in fixed
//! slots, and a slot with a score of minus infinity is padding. [`top_k`], [`nms`], [`batched_nms`] and
//! [`paste_bits`] work on host slices and return results of any length. The CPU version of each is the
//! reference that GPU kernels are tested against.
//!
//! Features: `flex` (CPU), `wgpu` (WGSL), `vulkan` and `metal` (SPIR-V and MSL instead of WGSL), `cuda`, `fusion`.
#![warn(missing_docs)]
// A library does not print, and the print macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
// Without flex nothing calls some of the CPU versions; without any backend operators have no implementation
// that uses their parameters.
#![cfg_attr(not(feature = "flex"), allow(dead_code))]
#![cfg_attr(
    not(any(feature = "flex", feature = "wgpu", feature = "cuda")),
    allow(unused_variables)
)]

mod accumulation;
mod backward_from;
mod bottleneck;
mod boxes;
mod capability;
// Without GPUs its operations have no backend, and so no use for their parameters.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(unused_variables))]
mod class_loss;
pub mod conv;
mod conv1x1;
pub mod conv3x3;
#[cfg(feature = "flex")]
mod cpu_conv;
#[cfg(feature = "flex")]
mod cpu_memory;
#[cfg(feature = "flex")]
mod cpu_tasks;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube_sum;
mod decode;
mod dtype;
pub mod epilogue;
mod features;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod fused_product;
mod group_norm;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod launch;
mod launches;
mod links;
mod mask_targets;
mod matching;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod multi_tensor;
mod nms;
mod overwrite;
mod paste;
mod prepare;
pub mod roi_align;
mod row_product;
mod rpn_outputs;
mod sampling;
mod squares;
mod tensor_list;
#[cfg(all(test, feature = "flex", any(feature = "wgpu", feature = "cuda")))]
mod test_gpu;
mod top_k;
mod update;
mod upload;

pub use backward_from::backward_from;
pub use bottleneck::bottleneck;
pub use boxes::{RoiTargets, encode_boxes, gather_boxes, roi_rows, roi_targets};
pub use capability::{MAX_TOP_K, can_select, has_selection_kernels, records_graphs};
pub use class_loss::{
    Count, Divisor, ElementLoss, RowWeights, bce_with_logits, class_loss, cross_entropy,
};
pub use conv::{ConvParams, conv_dtype, conv2d, conv2d_linked};
pub use conv3x3::conv3x3;
#[cfg(feature = "flex")]
pub use cpu_conv::{UnknownIsa, check_isa};
#[cfg(feature = "flex")]
pub use cpu_memory::release_cpu_memory;
pub use decode::{BoxDecoding, decode_box, decode_boxes, decode_proposals};
pub use features::{max_pool3x3, upsample_add};
pub use group_norm::group_norm;
pub use launches::{Launch, LaunchRecording, LaunchTime};
pub use links::{Links, has_links};
pub use mask_targets::{BitMasks, MaskWindow, mask_target, mask_targets};
#[cfg(feature = "flex")]
pub use matching::match_by;
pub use matching::{BACKGROUND, IGNORED, MatchThresholds, iou, match_boxes, match_proposals};
pub use nms::{batched_nms, nms, nms_sorted};
pub use overwrite::{Overwrite, Overwritten, overwrite};
pub use paste::{
    PasteBatch, PasteWindow, PastedMask, expand_box, paste_bits, paste_mask, paste_masks,
};
pub use prepare::{
    Folded, FrozenNorms, adopt, can_prepare_weights, cast_weights, fold_norms, restore_gradients,
};
pub use roi_align::{PyramidLevel, RoiAlignParams, pack_pyramid, roi_align};
pub use row_product::{LinearParams, linear, linear_layers, row_product};
pub use rpn_outputs::flatten_rpn_outputs;
pub use sampling::{
    Choice, ObjectSlots, choose_samples, mix, object_slots, sampling_key, sampling_scores,
    sampling_seeds,
};
pub use squares::{partial_sums_of_squares, sum_each};
pub use tensor_list::TensorList;
pub use top_k::{top_k, top_k_segments};
pub use update::{AdamwUpdate, ParamFactors, SgdUpdate, adamw, sgd};
pub use upload::upload_dense;
