//! The kernel of box decoding: a unit a slot.

#![allow(
    clippy::too_many_arguments,
    reason = "a kernel takes its buffers and their sizes one by one"
)]

use crate::top_k::kernel::EMPTY;
use cubecl::prelude::*;

/// Decodes the box of every slot, cuts it to its picture and marks it empty where it is no box.
///
/// * `deltas` - `[n, deltas_total, 4]`; `references` - `[n or 1, references_total, 4]`.
/// * `scores` - bits, `indices` - [`EMPTY`] or the place of the slot's deltas; both `[n, slots]`.
/// * `sizes` - `[n, 2]`: height and width; `boxes` - `[n, slots, 4]`; `kept` - bits, `[n, slots]`.
/// * `references_stride` - references between two pictures, 0 where pictures share them.
#[cube(launch_unchecked)]
pub fn decode_slots(
    deltas: &[f32],
    references: &[f32],
    scores: &[u32],
    indices: &[u32],
    sizes: &[f32],
    boxes: &mut [f32],
    kept: &mut [u32],
    pictures: u32,
    slots: u32,
    deltas_total: u32,
    references_total: u32,
    references_stride: u32,
    weight_x: f32,
    weight_y: f32,
    weight_width: f32,
    weight_height: f32,
    max_log_scale: f32,
    min_size: f32,
) {
    let slot = ABSOLUTE_POS as u32;
    if slot >= pictures * slots {
        terminate!();
    }
    let picture = slot / slots;
    let index = indices[slot as usize];
    let bits = scores[slot as usize];
    let mut x1 = 0.0f32;
    let mut y1 = 0.0f32;
    let mut x2 = 0.0f32;
    let mut y2 = 0.0f32;
    let mut kept_bits = 0xff80_0000u32;
    if index != EMPTY && is_finite(bits) {
        let d = ((picture * deltas_total + index) * 4) as usize;
        let reference = picture * references_stride + index % references_total;
        let r = (reference * 4) as usize;
        let width = references[r + 2] - references[r];
        let height = references[r + 3] - references[r + 1];
        let x = deltas[d] / weight_x * width + (references[r] + 0.5 * width);
        let y = deltas[d + 1] / weight_y * height + (references[r + 1] + 0.5 * height);
        let half_width = 0.5 * (scale(deltas[d + 2] / weight_width, max_log_scale) * width);
        let half_height = 0.5 * (scale(deltas[d + 3] / weight_height, max_log_scale) * height);
        let is_box = is_finite(u32::reinterpret(x - half_width))
            && is_finite(u32::reinterpret(y - half_height))
            && is_finite(u32::reinterpret(x + half_width))
            && is_finite(u32::reinterpret(y + half_height));
        let picture_height = sizes[(picture * 2) as usize];
        let picture_width = sizes[(picture * 2 + 1) as usize];
        let left = clamp(x - half_width, 0.0, picture_width);
        let top = clamp(y - half_height, 0.0, picture_height);
        let right = clamp(x + half_width, 0.0, picture_width);
        let bottom = clamp(y + half_height, 0.0, picture_height);
        if is_box && right - left >= min_size && bottom - top >= min_size {
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

/// `exp` of a delta in log space. A delta above the limit, or NaN, counts as the limit.
#[cube]
fn scale(delta: f32, limit: f32) -> f32 {
    select(delta < limit, delta, limit).exp()
}

/// Whether the f32 with these bits is neither infinite nor NaN. Shader compilers may assume that
/// floats are finite; about integers they assume nothing.
#[cube]
fn is_finite(bits: u32) -> bool {
    bits & 0x7f80_0000 != 0x7f80_0000
}
