//! Kernels of non-maximum suppression: overlaps of slots as one bit per pair, then the kept slots.

use crate::top_k::kernel::{KEY_OF_MINUS_INFINITY, key_of};
use cubecl::prelude::*;

/// Units per cube of [`find_overlaps`], with one slot each.
pub const ROWS: u32 = 256;

/// Units per cube of [`suppress`], with one word each: enough for 2,048 slots.
pub const WORDS: u32 = 64;

/// Slots per word.
pub const BITS: u32 = 32;

/// Whether a slot whose score has these bits contains a box: not minus infinity and not NaN.
#[cube]
fn is_valid(bits: u32) -> bool {
    key_of(bits) > KEY_OF_MINUS_INFINITY
}

/// Sets bit `j` of word `w` of slot `i` if slot `32 w + j` comes after `i` and their IoU is greater than `threshold`.
///
/// Cube `(w, r, g)` computes word `w` of 256 slots of group `g`. Words before their slot and words of empty slots are
/// not written; [`suppress`] does not read them.
/// * `boxes` - `[g, k, 4]`; `scores` - bits, `[g, k]`; `overlaps` - `[g, k, words]`.
#[cube(launch_unchecked)]
pub fn find_overlaps(
    boxes: &[f32],
    scores: &[u32],
    overlaps: &mut [u32],
    threshold: f32,
    k: u32,
    words: u32,
) {
    let first = CUBE_POS_Z * k;
    let row = CUBE_POS_Y * ROWS + UNIT_POS;
    let first_column = CUBE_POS_X * BITS;
    let mut columns = Shared::<[f32]>::new_slice(comptime!(4 * BITS as usize));
    if UNIT_POS < 4 * BITS {
        let value = first_column * 4 + UNIT_POS;
        if value < k * 4 {
            columns[UNIT_POS as usize] = boxes[(first * 4 + value) as usize];
        }
    }
    sync_cube();
    // Conditions are nested: CubeCL may evaluate both sides of `&&`, and a read out of bounds is undefined.
    let mut has_pairs = false;
    if row < k && row < first_column + BITS {
        has_pairs = is_valid(scores[(first + row) as usize]);
    }
    if has_pairs {
        let base = ((first + row) * 4) as usize;
        let x1 = boxes[base];
        let y1 = boxes[base + 1];
        let x2 = boxes[base + 2];
        let y2 = boxes[base + 3];
        let area = (x2 - x1) * (y2 - y1);
        let mut bits = 0u32;
        for j in 0..BITS {
            let column = first_column + j;
            if column > row && column < k {
                let c = (j * 4) as usize;
                let width = min(x2, columns[c + 2]) - max(x1, columns[c]);
                let height = min(y2, columns[c + 3]) - max(y1, columns[c + 1]);
                let intersection = max(width, 0.0) * max(height, 0.0);
                let other = (columns[c + 2] - columns[c]) * (columns[c + 3] - columns[c + 1]);
                if intersection / (area + other - intersection) > threshold {
                    bits |= 1u32 << j;
                }
            }
        }
        overlaps[((first + row) * words + CUBE_POS_X) as usize] = bits;
    }
}

/// Writes the bits of the scores, and minus infinity for slots that are empty or suppressed.
///
/// Cube `g` processes group `g`, one word of slots at a time: one unit decides the slots of the word, then every unit
/// suppresses the slots of a later word that overlap the kept ones.
#[cube(launch_unchecked)]
pub fn suppress(overlaps: &[u32], scores: &[u32], kept: &mut [u32], k: u32, words: u32) {
    let first = CUBE_POS_X * k;
    let mut struck = Shared::<[u32]>::new_slice(WORDS as usize);
    let mut own = Shared::<[u32]>::new_slice(BITS as usize);
    if UNIT_POS < words {
        let mut bits = 0u32;
        for j in 0..BITS {
            let slot = UNIT_POS * BITS + j;
            let mut valid = false;
            if slot < k {
                valid = is_valid(scores[(first + slot) as usize]);
            }
            if !valid {
                bits |= 1u32 << j;
            }
        }
        struck[UNIT_POS as usize] = bits;
    }

    for word in 0..words {
        let row = word * BITS;
        if UNIT_POS < BITS && row + UNIT_POS < k {
            own[UNIT_POS as usize] = overlaps[((first + row + UNIT_POS) * words + word) as usize];
        }
        sync_cube();
        if UNIT_POS == 0 {
            let mut bits = struck[word as usize];
            for j in 0..BITS {
                if (bits >> j) & 1 == 0 {
                    bits |= own[j as usize];
                }
            }
            struck[word as usize] = bits;
        }
        sync_cube();
        if UNIT_POS > word && UNIT_POS < words {
            let survivors = !struck[word as usize];
            let mut bits = struck[UNIT_POS as usize];
            for j in 0..BITS {
                if (survivors >> j) & 1 == 1 {
                    bits |= overlaps[((first + row + j) * words + UNIT_POS) as usize];
                }
            }
            struck[UNIT_POS as usize] = bits;
        }
    }
    sync_cube();

    let mut slot = UNIT_POS;
    while slot < k {
        let is_struck = (struck[(slot / BITS) as usize] >> (slot % BITS)) & 1 == 1;
        let bits = scores[(first + slot) as usize];
        kept[(first + slot) as usize] = select(is_struck, 0xff80_0000u32, bits);
        slot += WORDS;
    }
}
