//! The kernel that finds the k best scores of a segment, in no order: a radix select, one cube each.
//!
//! Scores are read as bits and compared as integers, so that NaN, infinities, signed zeros and
//! subnormal numbers rank alike on every device. A candidate is a pair: the key of its score, and an
//! order that falls with its index. All pairs differ, so the k best are one exact set.

#![allow(
    clippy::too_many_arguments,
    reason = "a kernel takes its buffers and their sizes one by one"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "CubeCL unrolls loops over ranges only"
)]

use cubecl::prelude::*;

/// Units of a cube: what WebGPU guarantees.
pub const UNITS: u32 = 256;

/// Index of a slot that holds nothing, -1 as i32.
pub const EMPTY: u32 = u32::MAX;

/// The key of minus infinity; only NaN has a lower one.
pub const KEY_OF_MINUS_INFINITY: u32 = 0x007f_ffff;

/// Scores of a row must be fewer, so that an order has two digits.
pub const MAX_ORDER: u32 = (1 << 22) - 1;

/// Values of a digit of 11 bits; their histogram takes 8 KiB.
const BINS: u32 = 2048;
const BINS_A_UNIT: u32 = BINS / UNITS;

/// The threshold in shared memory: the key and the order of the last candidate taken, as far as they
/// are known, and how many of the candidates that begin like them are still wanted.
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

/// Five digits, best first. Distinct scores are told apart by the second or third; the last two
/// matter where the k-th best score is shared.
const DIGITS: [Digit; 5] = [
    key_digit(21, 0),
    key_digit(10, 0xffe0_0000),
    key_digit(0, 0xffff_fc00),
    order_digit(11, 0),
    order_digit(0, 0x003f_f800),
];

/// Maps the bits of a score to an integer that rises with the score; both zeros to one, NaN to 0.
#[cube]
pub fn key_of(bits: u32) -> u32 {
    let magnitude = bits & 0x7fff_ffff;
    let negative = bits != magnitude && magnitude != 0;
    let key = select(negative, !bits, magnitude | 0x8000_0000);
    select(magnitude > 0x7f80_0000, 0, key)
}

/// Candidate `i` of a segment: listed, or the i-th score from `first`.
#[cube]
fn index_of(candidates: &[u32], first: u32, i: u32, #[comptime] listed: bool) -> u32 {
    if comptime!(listed) {
        candidates[(first + i) as usize]
    } else {
        first + i
    }
}

/// Writes the indices of the best candidates of each segment, in no order, then [`EMPTY`].
///
/// Cube `(s, n)` takes segment `s` of row `n`.
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
        // Below every candidate: right where all of them fit.
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

/// Counts, by the value of `digit`, the candidates that begin like the threshold.
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
    // Nothing is read once the threshold is known. The barriers stay: all units must pass them.
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

/// Sets `digit` of the threshold to the bin that the last wanted candidate falls in.
#[cube]
fn narrow(
    threshold: &mut Shared<[u32]>,
    histogram: &Shared<[Atomic<u32>]>,
    sums: &mut Shared<[u32]>,
    #[comptime] digit: Digit,
) {
    let wanted = threshold[WANTED];
    // Unit 0 owns the best bins, unit 1 the next.
    let best = BINS - 1 - UNIT_POS * BINS_A_UNIT;
    let mut own = 0u32;
    for i in 0..BINS_A_UNIT {
        own += histogram[(best - i) as usize].load();
    }
    let mut better = sum_before(sums, own);
    for i in 0..BINS_A_UNIT {
        let bin = best - i;
        let here = histogram[bin as usize].load();
        if better < wanted && wanted <= better + here {
            let bits = bin << comptime!(digit.shift);
            if comptime!(digit.of_key) {
                threshold[KEY] |= bits;
            } else {
                threshold[ORDER] |= bits;
            }
            // Where the whole bin is wanted, the digits that follow need not be known.
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
