//! Kernel of the sampling scores, with one unit per candidate. WGSL has no 64-bit integers, so those of the generator
//! are pairs of words.

use crate::matching::BACKGROUND;
use cubecl::prelude::*;

/// A 64-bit integer.
#[derive(CubeType, Clone, Copy)]
struct Wide {
    high: u32,
    low: u32,
}

/// `matches [n, total]`, `seeds [n, 2]` (high and low word) -> bits of `scores [n, 2 total]`.
#[cube(launch_unchecked)]
pub fn score_candidates(
    matches: &[i32],
    seeds: &[u32],
    scores: &mut [u32],
    images: u32,
    total: u32,
) {
    let candidate = ABSOLUTE_POS as u32;
    if candidate >= images * total {
        terminate!();
    }
    let image = candidate / total;
    let index = candidate % total;
    let seed = Wide {
        high: seeds[(image * 2) as usize],
        low: seeds[(image * 2 + 1) as usize],
    };
    let bits = mix(&add(
        &seed,
        &Wide {
            high: 0u32,
            low: index,
        },
    ));
    let score = u32::reinterpret(1.0f32 - f32::cast_from(bits.high >> 8) / 16_777_216.0f32);
    // Written as bits, because shader compilers may assume that floats are finite.
    let none = 0xff80_0000u32;
    let found = matches[candidate as usize];
    let object = (image * 2 * total + index) as usize;
    scores[object] = select(found >= 0, score, none);
    scores[object + total as usize] = select(found == BACKGROUND, score, none);
}

/// SplitMix64's output function, as [`super::mix`].
#[cube]
fn mix(counter: &Wide) -> Wide {
    let z = add(
        counter,
        &Wide {
            high: 0x9E37_79B9u32,
            low: 0x7F4A_7C15u32,
        },
    );
    let z = multiply(&fold(&z, 30u32), 0xBF58_476Du32, 0x1CE4_E5B9u32);
    let z = multiply(&fold(&z, 27u32), 0x94D0_49BBu32, 0x1331_11EBu32);
    fold(&z, 31u32)
}

#[cube]
fn add(a: &Wide, b: &Wide) -> Wide {
    let low = a.low + b.low;
    let carry = u32::cast_from(low < a.low);
    Wide {
        high: a.high + b.high + carry,
        low,
    }
}

/// `z ^ (z >> shift)` for shifts below a word.
#[cube]
fn fold(z: &Wide, shift: u32) -> Wide {
    Wide {
        high: z.high ^ (z.high >> shift),
        low: z.low ^ ((z.low >> shift) | (z.high << (32u32 - shift))),
    }
}

/// The lower 64 bits of the product, computed from 16-bit parts.
#[cube]
fn multiply(a: &Wide, high: u32, low: u32) -> Wide {
    let a0 = a.low & 0xffff;
    let a1 = a.low >> 16;
    let b0 = low & 0xffff;
    let b1 = low >> 16;
    let middle = ((a0 * b0) >> 16) + ((a0 * b1) & 0xffff) + ((a1 * b0) & 0xffff);
    let carried = a1 * b1 + ((a0 * b1) >> 16) + ((a1 * b0) >> 16) + (middle >> 16);
    Wide {
        high: carried + a.high * low + a.low * high,
        low: a.low * low,
    }
}
