//! Kernel that selects the k best scores of a segment, unordered: a radix select with one cube per segment.
//!
//! Scores are read as bits and compared as integers, so that NaN, infinities, signed zeros and subnormal numbers have
//! the same rank on every device. A candidate is a pair of the key of its score and an order that decreases with its
//! index. All pairs are different, so the set of the k best is unique.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "CubeCL unrolls loops over ranges only"
)]

use cubecl::prelude::*;

/// Units per cube, the maximum that WebGPU guarantees.
pub const UNITS: u32 = 256;

/// Index of an empty slot, -1 as i32.
pub const EMPTY: u32 = u32::MAX;

/// The key of minus infinity; only NaN has a lower one.
pub const KEY_OF_MINUS_INFINITY: u32 = 0x007f_ffff;

/// Upper bound of the scores per row, so that an order has two digits.
pub const MAX_ORDER: u32 = (1 << 22) - 1;

/// Values of a digit of 11 bits; their histogram takes 8 KiB.
const BINS: u32 = 2048;
const BINS_PER_UNIT: u32 = BINS / UNITS;

/// The threshold in shared memory: the known digits of the key and of the order of the last selected candidate, and how
/// many of the candidates with these digits are still needed.
const KEY: usize = 0;
const ORDER: usize = 1;
const WANTED: usize = 2;

/// A digit of (key, order), and the bits before it.
#[derive(Clone, Copy)]
struct Digit {
    of_key: bool,
    shift: u32,
    key_before: u32,
    order_before: u32,
}

const fn key_digit(shift: u32, key_before: u32) -> Digit {
    Digit {
        of_key: true,
        shift,
        key_before,
        order_before: 0,
    }
}

const fn order_digit(shift: u32, order_before: u32) -> Digit {
    Digit {
        of_key: false,
        shift,
        key_before: u32::MAX,
        order_before,
    }
}

/// Five digits, most significant first. The second or third separates distinct scores; the last two are needed if
/// several candidates have the k-th best score.
const DIGITS: [Digit; 5] = [
    key_digit(21, 0),
    key_digit(10, 0xffe0_0000),
    key_digit(0, 0xffff_fc00),
    order_digit(11, 0),
    order_digit(0, 0x003f_f800),
];

/// Maps the bits of a score to an integer that increases with the score; both zeros have the same key, and NaN has 0.
#[cube]
pub fn key_of(bits: u32) -> u32 {
    let magnitude = bits & 0x7fff_ffff;
    let negative = bits != magnitude && magnitude != 0;
    let key = select(negative, !bits, magnitude | 0x8000_0000);
    select(magnitude > 0x7f80_0000, 0, key)
}

/// Candidate `i` of a segment, from the list or by offset from `first`.
#[cube]
fn index_of(candidates: &[u32], first: u32, i: u32, #[comptime] listed: bool) -> u32 {
    if comptime!(listed) {
        candidates[(first + i) as usize]
    } else {
        first + i
    }
}

/// Writes the unordered indices of the best candidates of each segment, then [`EMPTY`].
///
/// Cube `(s, n)` processes segment `s` of row `n`.
/// * `scores` - bits, `[n, scores_total]`.
/// * `segments` - `[s, 4]`: first candidate, number of candidates, first slot, number of slots.
/// * `candidates` - if `listed`, their indices, `[n, candidates_total]`.
/// * `selected` - `[n, selected_total]`.
#[cube(launch_unchecked)]
pub fn select_best(
    scores: &[u32],
    segments: &[u32],
    candidates: &[u32],
    selected: &mut [u32],
    scores_total: u32,
    candidates_total: u32,
    selected_total: u32,
    #[comptime] listed: bool,
) {
    let segment = CUBE_POS_X as usize * 4;
    let count = segments[segment + 1];
    let slots = segments[segment + 3];
    let row = CUBE_POS_Y * scores_total;
    let first_slot = CUBE_POS_Y * selected_total + segments[segment + 2];
    let mut first = segments[segment];
    if comptime!(listed) {
        first += CUBE_POS_Y * candidates_total;
    }

    let mut threshold = Shared::<[u32]>::new_slice(3usize);
    let histogram = Shared::<[Atomic<u32>]>::new_slice(BINS as usize);
    let mut sums = Shared::<[u32]>::new_slice(UNITS as usize);
    let taken = Shared::<[Atomic<u32>]>::new_slice(1usize);
    if UNIT_POS == 0 {
        // Below every candidate, which is correct if all of them fit.
        threshold[KEY] = 0;
        threshold[ORDER] = 0;
        threshold[WANTED] = select(count > slots, slots, 0);
        taken[0].store(0u32);
    }
    sync_cube();

    #[unroll]
    for digit in 0..5usize {
        let digit = comptime!(DIGITS[digit]);
        count_digit(
            scores, candidates, &threshold, &histogram, row, first, count, listed, digit,
        );
        narrow(&mut threshold, &histogram, &mut sums, digit);
    }

    let last_key = threshold[KEY];
    let last_order = threshold[ORDER];
    let mut i = UNIT_POS;
    while i < count {
        let index = index_of(candidates, first, i, listed);
        let key = key_of(scores[(row + index) as usize]);
        if key > last_key || (key == last_key && MAX_ORDER - index >= last_order) {
            let slot = taken[0].fetch_add(1u32);
            if slot < slots {
                selected[(first_slot + slot) as usize] = index;
            }
        }
        i += UNITS;
    }
    let mut slot = count + UNIT_POS;
    while slot < slots {
        selected[(first_slot + slot) as usize] = EMPTY;
        slot += UNITS;
    }
}

/// Histogram over the values of `digit` of the candidates that share the known digits of the threshold.
#[cube]
fn count_digit(
    scores: &[u32],
    candidates: &[u32],
    threshold: &Shared<[u32]>,
    histogram: &Shared<[Atomic<u32>]>,
    row: u32,
    first: u32,
    count: u32,
    #[comptime] listed: bool,
    #[comptime] digit: Digit,
) {
    let mut bin = UNIT_POS;
    while bin < BINS {
        histogram[bin as usize].store(0u32);
        bin += UNITS;
    }
    sync_cube();
    let key_so_far = threshold[KEY];
    let order_so_far = threshold[ORDER];
    // Nothing is read after the threshold is known, but all units must still pass the barriers.
    let count = select(threshold[WANTED] > 0, count, 0);
    let mut i = UNIT_POS;
    while i < count {
        let index = index_of(candidates, first, i, listed);
        let key = key_of(scores[(row + index) as usize]);
        let order = MAX_ORDER - index;
        let value = if comptime!(digit.of_key) { key } else { order };
        if (key & comptime!(digit.key_before)) == key_so_far
            && (order & comptime!(digit.order_before)) == order_so_far
        {
            let bin = (value >> comptime!(digit.shift)) & (BINS - 1);
            histogram[bin as usize].fetch_add(1u32);
        }
        i += UNITS;
    }
    sync_cube();
}

/// Sets `digit` of the threshold to the bin of the last needed candidate.
#[cube]
fn narrow(
    threshold: &mut Shared<[u32]>,
    histogram: &Shared<[Atomic<u32>]>,
    sums: &mut Shared<[u32]>,
    #[comptime] digit: Digit,
) {
    let wanted = threshold[WANTED];
    // Unit 0 has the best bins, unit 1 the next.
    let best = BINS - 1 - UNIT_POS * BINS_PER_UNIT;
    let mut own = 0u32;
    for i in 0..BINS_PER_UNIT {
        own += histogram[(best - i) as usize].load();
    }
    let mut better = sum_before(sums, own);
    for i in 0..BINS_PER_UNIT {
        let bin = best - i;
        let here = histogram[bin as usize].load();
        if better < wanted && wanted <= better + here {
            let bits = bin << comptime!(digit.shift);
            if comptime!(digit.of_key) {
                threshold[KEY] |= bits;
            } else {
                threshold[ORDER] |= bits;
            }
            // If the whole bin is needed, the following digits do not matter.
            threshold[WANTED] = select(wanted == better + here, 0, wanted - better);
        }
        better += here;
    }
    sync_cube();
}

/// The sum of `own` over all units before this one (Hillis and Steele, 1986).
#[cube]
fn sum_before(sums: &mut Shared<[u32]>, own: u32) -> u32 {
    let mut sum = own;
    sums[UNIT_POS as usize] = sum;
    sync_cube();
    let mut distance = 1u32;
    while distance < UNITS {
        let mut before = 0u32;
        if UNIT_POS >= distance {
            before = sums[(UNIT_POS - distance) as usize];
        }
        sync_cube();
        sum += before;
        sums[UNIT_POS as usize] = sum;
        sync_cube();
        distance *= 2;
    }
    sum - own
}
