//! The kernel of box decoding: one unit per slot.

use crate::top_k::kernel::EMPTY;
use cubecl::prelude::*;

/// Sizes of the buffers and parameters of decoding.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Decoding {
    pub images: u32,
    /// Slots per image.
    pub slots: u32,
    /// Deltas per image.
    pub deltas_total: u32,
    /// References per image.
    pub references_total: u32,
    /// References between two images; 0 if images share them.
    pub references_stride: u32,
    pub weight_x: f32,
    pub weight_y: f32,
    pub weight_width: f32,
    pub weight_height: f32,
    pub max_log_scale: f32,
    pub min_size: f32,
}

/// Decodes the box of every slot, clips it to its image, and marks invalid boxes as empty.
///
/// * `deltas` - `[n, deltas_total, 4]`; `references` - `[n or 1, references_total, 4]`.
/// * `scores` - bits, or those of their logits if `has_logits`; `indices` - [`EMPTY`] or the index of the slot's
///   deltas; both `[n, slots]`.
/// * `sizes` - `[n, 2]`: height and width; `boxes` - `[n, slots, 4]`; `kept` - bits, `[n, slots]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn decode_slots(
    deltas: &[f32],
    references: &[f32],
    scores: &[u32],
    indices: &[u32],
    sizes: &[f32],
    boxes: &mut [f32],
    kept: &mut [u32],
    decoding: &Decoding,
    #[comptime] has_logits: bool,
) {
    let slot = ABSOLUTE_POS as u32;
    if slot >= decoding.images * decoding.slots {
        terminate!();
    }
    let image = slot / decoding.slots;
    let index = indices[slot as usize];
    let mut bits = scores[slot as usize];
    if comptime!(has_logits) {
        bits = sigmoid(bits);
    }
    let mut x1 = 0.0f32;
    let mut y1 = 0.0f32;
    let mut x2 = 0.0f32;
    let mut y2 = 0.0f32;
    let mut kept_bits = 0xff80_0000u32;
    if index != EMPTY && is_finite(bits) {
        let d = ((image * decoding.deltas_total + index) * 4) as usize;
        let reference = image * decoding.references_stride + index % decoding.references_total;
        let r = (reference * 4) as usize;
        let width = references[r + 2] - references[r];
        let height = references[r + 3] - references[r + 1];
        let x = deltas[d] / decoding.weight_x * width + (references[r] + 0.5 * width);
        let y = deltas[d + 1] / decoding.weight_y * height + (references[r + 1] + 0.5 * height);
        let half_width = 0.5
            * (scale(
                deltas[d + 2] / decoding.weight_width,
                decoding.max_log_scale,
            ) * width);
        let half_height = 0.5
            * (scale(
                deltas[d + 3] / decoding.weight_height,
                decoding.max_log_scale,
            ) * height);
        let is_box = is_finite(u32::reinterpret(x - half_width))
            && is_finite(u32::reinterpret(y - half_height))
            && is_finite(u32::reinterpret(x + half_width))
            && is_finite(u32::reinterpret(y + half_height));
        let image_height = sizes[(image * 2) as usize];
        let image_width = sizes[(image * 2 + 1) as usize];
        let left = clamp(x - half_width, 0.0, image_width);
        let top = clamp(y - half_height, 0.0, image_height);
        let right = clamp(x + half_width, 0.0, image_width);
        let bottom = clamp(y + half_height, 0.0, image_height);
        if is_box && right - left >= decoding.min_size && bottom - top >= decoding.min_size {
            x1 = left;
            y1 = top;
            x2 = right;
            y2 = bottom;
            kept_bits = bits;
        }
    }
    let base = (slot * 4) as usize;
    boxes[base] = x1;
    boxes[base + 1] = y1;
    boxes[base + 2] = x2;
    boxes[base + 3] = y2;
    kept[slot as usize] = kept_bits;
}

/// The bits of the sigmoid of a logit; NaN stays. Tested on integers, as in [`is_finite`].
#[cube]
fn sigmoid(bits: u32) -> u32 {
    let logit = f32::reinterpret(bits);
    let probability = 1.0f32 / ((-logit).exp() + 1.0f32);
    let is_nan = (bits & 0x7fff_ffffu32) > 0x7f80_0000u32;
    select(is_nan, bits, u32::reinterpret(probability))
}

/// `exp` of a delta in log space, clamped to the limit; NaN gives the limit.
#[cube]
fn scale(delta: f32, limit: f32) -> f32 {
    select(delta < limit, delta, limit).exp()
}

/// Whether the f32 with these bits is finite. Tested on integers, because shader compilers may assume that floats are
/// finite.
#[cube]
fn is_finite(bits: u32) -> bool {
    bits & 0x7f80_0000 != 0x7f80_0000
}
