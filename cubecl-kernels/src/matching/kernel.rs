//! The kernel of matching: a unit a box, the ground truth in tiles of shared memory.

#![allow(
    clippy::too_many_arguments,
    reason = "a kernel takes its buffers and their sizes one by one"
)]

use super::{BACKGROUND, IGNORED};
use cubecl::prelude::*;

/// Units of a cube; each also loads a corner of the tile.
pub const UNITS: u32 = 256;

/// Ground truths of a tile.
const TILE: u32 = UNITS / 4;

/// One of two passes over all pairs of a box and a ground truth.
///
/// The first (`deciding` 0) leaves the best IoU of each ground truth in `best [n, slots]`, as bits:
/// those of numbers above zero are ordered as the numbers are, so that an integer maximum serves. The
/// second writes `matches [n, total]`. Both are one kernel so that compilers round an IoU the same
/// way in both: a box is claimed where its IoU equals the best.
///
/// * `boxes` - `[n or 1, total, 4]`; `boxes_stride` - boxes between two pictures, 0 where shared.
/// * `truth` - `[n, slots, 4]`, the first `counts [n]` of which are there.
#[cube(launch_unchecked)]
pub fn match_pass(
    boxes: &[f32],
    truth: &[f32],
    counts: &[u32],
    best: &mut [Atomic<u32>],
    matches: &mut [i32],
    total: u32,
    boxes_stride: u32,
    slots: u32,
    fg_iou: f32,
    bg_iou: f32,
    allow_low_quality: u32,
    deciding: u32,
) {
    let picture = CUBE_POS_Y;
    let index = CUBE_POS_X * UNITS + UNIT_POS;
    let count = min(counts[picture as usize], slots);
    let first_truth = picture * slots;
    let mut tile = Shared::<[f32]>::new_slice(UNITS as usize);

    let base = ((picture * boxes_stride + min(index, total - 1)) * 4) as usize;
    let x1 = boxes[base];
    let y1 = boxes[base + 1];
    let x2 = boxes[base + 2];
    let y2 = boxes[base + 3];
    let area = (x2 - x1) * (y2 - y1);
    let mut best_iou = f32::new(-1.0f32);
    let mut best_truth = 0u32;
    let mut is_claimed = false;

    // Bounded by the slots, not by the count: barriers need bounds that are the same everywhere.
    for step in 0..slots.div_ceil(TILE) {
        let corner = step * UNITS + UNIT_POS;
        if corner < slots * 4 {
            tile[UNIT_POS as usize] = truth[(first_truth * 4 + corner) as usize];
        }
        sync_cube();
        let first = step * TILE;
        for j in 0..min(max(count, first) - first, TILE) {
            let slot = first + j;
            let c = (j * 4) as usize;
            let width = max(min(x2, tile[c + 2]) - max(x1, tile[c]), 0.0f32);
            let height = max(min(y2, tile[c + 3]) - max(y1, tile[c + 1]), 0.0f32);
            let intersection = width * height;
            let other = (tile[c + 2] - tile[c]) * (tile[c + 3] - tile[c + 1]);
            let union = area + other - intersection;
            if union > 0.0f32 {
                let iou = intersection / union;
                let bits = u32::reinterpret(iou);
                if iou > best_iou {
                    best_iou = iou;
                    best_truth = slot;
                }
                if deciding == 1 {
                    if bits == best[(first_truth + slot) as usize].load() {
                        is_claimed = true;
                    }
                } else if index < total && bits > 0 {
                    let place = (first_truth + slot) as usize;
                    if bits > best[place].load() {
                        best[place].fetch_max(bits);
                    }
                }
            }
        }
        sync_cube();
    }

    if deciding == 1 && index < total {
        let mut result = select(best_iou < bg_iou, BACKGROUND, IGNORED);
        if best_iou >= fg_iou || (is_claimed && allow_low_quality == 1) {
            result = best_truth as i32;
        }
        matches[(picture * total + index) as usize] = result;
    }
}
