//! Kernel of matching, with one unit per candidate and the ground truth in tiles of shared memory.

#![allow(
    unused_assignments,
    reason = "a variable of a kernel needs a value before branches assign one"
)]

use super::{BACKGROUND, IGNORED};
use cubecl::prelude::*;

/// Units per cube; each also loads one value of the tile.
pub const UNITS: u32 = 256;

/// Ground truths per tile.
const TILE: u32 = UNITS / 4;

/// Sizes of the buffers, thresholds, and the pass.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Matching {
    /// Candidates per image: its boxes, and its ground truth if there are scores.
    pub total: u32,
    /// Boxes per image.
    pub boxes: u32,
    /// Boxes between two images; 0 if images share them.
    pub boxes_stride: u32,
    /// Slots for ground truth per image.
    pub slots: u32,
    pub fg_iou: f32,
    pub bg_iou: f32,
    /// 1 if each ground truth is also matched to the boxes with its highest IoU.
    pub allow_low_quality: u32,
    /// 0 in the pass that computes the best IoUs, 1 in the pass that writes the matches.
    pub deciding: u32,
}

/// One of two passes over all pairs of a candidate and a ground truth.
///
/// The first (`deciding` 0) computes the best IoU of each ground truth in `best [n, slots]`, as bits; the bits of
/// positive floats have the same order, so an integer maximum is used. The second writes `matches [n, total]`. Both
/// passes are one kernel, so that an IoU is rounded in the same way in both, because a box is also matched if its IoU
/// equals the best. Without low-quality matches the second pass is enough, and `best` is not read.
///
/// * `boxes` - `[n or 1, boxes, 4]`.
/// * `scores` - bits, `[n, boxes]`; boxes with minus infinity are ignored. Only read if `has_scores`.
/// * `gt` - `[n, slots, 4]`, the first `counts [n]` of which are valid.
#[cube(launch_unchecked)]
pub fn match_pass(
    boxes: &[f32],
    scores: &[u32],
    gt: &[f32],
    counts: &[u32],
    best: &mut [Atomic<u32>],
    matches: &mut [i32],
    matching: &Matching,
    #[comptime] has_scores: bool,
) {
    let total = matching.total;
    let slots = matching.slots;
    let deciding = matching.deciding;
    let image = CUBE_POS_Y;
    let index = CUBE_POS_X * UNITS + UNIT_POS;
    let count = min(counts[image as usize], slots);
    let first_gt = image * slots;
    let mut tile = Shared::<[f32]>::new_slice(UNITS as usize);

    let candidate = min(index, total - 1);
    let mut is_candidate = true;
    let mut x1 = 0.0f32;
    let mut y1 = 0.0f32;
    let mut x2 = 0.0f32;
    let mut y2 = 0.0f32;
    if candidate < matching.boxes {
        let base = ((image * matching.boxes_stride + candidate) * 4) as usize;
        x1 = boxes[base];
        y1 = boxes[base + 1];
        x2 = boxes[base + 2];
        y2 = boxes[base + 3];
        if comptime!(has_scores) {
            // Tested on the bits, because shader compilers may assume that floats are finite.
            let bits = scores[(image * matching.boxes + candidate) as usize];
            is_candidate = bits != 0xff80_0000u32;
        }
    } else {
        let slot = candidate - matching.boxes;
        let base = ((first_gt + slot) * 4) as usize;
        x1 = gt[base];
        y1 = gt[base + 1];
        x2 = gt[base + 2];
        y2 = gt[base + 3];
        is_candidate = slot < count;
    }
    let area = (x2 - x1) * (y2 - y1);
    let is_claiming = deciding == 1 && matching.allow_low_quality == 1;
    let mut best_iou = f32::new(-1.0f32);
    let mut best_gt = 0u32;
    let mut is_claimed = false;

    // The bound is the number of slots and not the count, because barriers need uniform bounds.
    for step in 0..slots.div_ceil(TILE) {
        let corner = step * UNITS + UNIT_POS;
        if corner < slots * 4 {
            tile[UNIT_POS as usize] = gt[(first_gt * 4 + corner) as usize];
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
                    best_gt = slot;
                }
                if is_claiming {
                    if bits == best[(first_gt + slot) as usize].load() {
                        is_claimed = true;
                    }
                } else if deciding == 0 && index < total && bits > 0 {
                    let place = (first_gt + slot) as usize;
                    if bits > best[place].load() {
                        best[place].fetch_max(bits);
                    }
                }
            }
        }
        sync_cube();
    }

    if deciding == 1 && index < total {
        let mut result = select(best_iou < matching.bg_iou, BACKGROUND, IGNORED);
        if best_iou >= matching.fg_iou || is_claimed {
            result = best_gt as i32;
        }
        matches[(image * total + index) as usize] = select(is_candidate, result, IGNORED);
    }
}
