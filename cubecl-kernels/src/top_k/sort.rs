//! The kernel that sorts the selected scores of a segment: a bitonic sort in shared memory.

use super::kernel::{EMPTY, UNITS, key_of};
use cubecl::prelude::*;

/// Sorts the `k` indices of each segment by their scores, best first, in place, and writes the
/// bits of the scores, or of minus infinity for empty slots.
///
/// Cube `(s, n)` sorts segment `s` of row `n`; `slots` is the smallest power of two that is not below `k`. Each slot
/// takes eight bytes of shared memory.
#[cube(launch_unchecked)]
pub fn sort_best(
    scores: &[u32],
    indices: &mut [u32],
    best: &mut [u32],
    scores_total: u32,
    k: u32,
    #[comptime] slots: u32,
) {
    let row = CUBE_POS_Y * scores_total;
    let base = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * k;
    let mut keys = Shared::<[u32]>::new_slice(comptime!(slots as usize));
    let mut order = Shared::<[u32]>::new_slice(comptime!(slots as usize));
    let mut slot = UNIT_POS;
    while slot < slots {
        // An empty slot has the key of NaN and the last index, so it is sorted last.
        let mut key = 0u32;
        let mut index = EMPTY.runtime();
        if slot < k {
            index = indices[(base + slot) as usize];
        }
        if index != EMPTY {
            key = key_of(scores[(row + index) as usize]);
        }
        keys[slot as usize] = key;
        order[slot as usize] = index;
        slot += UNITS;
    }
    sync_cube();

    bitonic_sort(&mut keys, &mut order, slots);

    let mut slot = UNIT_POS;
    while slot < k {
        let index = order[slot as usize];
        let mut bits = 0xff80_0000u32.runtime();
        if index != EMPTY {
            bits = scores[(row + index) as usize];
        }
        indices[(base + slot) as usize] = index;
        best[(base + slot) as usize] = bits;
        slot += UNITS;
    }
}

/// Sorts pairs by descending key, then ascending index (Batcher, 1968).
#[cube]
fn bitonic_sort(keys: &mut Shared<[u32]>, order: &mut Shared<[u32]>, #[comptime] slots: u32) {
    let mut run = 2u32;
    while run <= slots {
        let mut stride = run / 2;
        while stride > 0 {
            let mut pair = UNIT_POS;
            while pair < comptime!(slots / 2) {
                let low = 2 * pair - (pair & (stride - 1));
                let a = low as usize;
                let b = (low + stride) as usize;
                let key_a = keys[a];
                let key_b = keys[b];
                let index_a = order[a];
                let index_b = order[b];
                let in_order = key_a > key_b || (key_a == key_b && index_a <= index_b);
                // Without `!=`: CubeCL 0.11.3 cannot emit comparisons of booleans for CUDA.
                let is_rising = (low & run) == 0;
                if (in_order && !is_rising) || (!in_order && is_rising) {
                    keys[a] = key_b;
                    keys[b] = key_a;
                    order[a] = index_b;
                    order[b] = index_a;
                }
                pair += UNITS;
            }
            sync_cube();
            stride /= 2;
        }
        run *= 2;
    }
}
