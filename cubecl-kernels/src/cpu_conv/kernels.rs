//! The two inner loops of every convolution, generic over the instruction set.
//!
//! [`Product`] multiplies packed weights by vectors of neighboring pixels, for the forward pass and the
//! gradient of the input. [`Dots`] multiplies vectors along the pixels by each other, for the gradient of
//! the weights. Both keep [`GROUP`] by [`WIDTH`] sums in registers and reach one multiply-add per
//! port and cycle where there are enough registers.

#![allow(
    clippy::needless_range_loop,
    reason = "loops of a fixed count over registers are unrolled; iterators over arrays may not be"
)]

use super::simd::Simd;

/// Output channels per pass of a kernel.
pub const GROUP: usize = 8;
/// Vectors of pixels (or rows of the input) per pass of a kernel.
pub const WIDTH: usize = 3;
/// Rows that a pass of [`Dots`] loads into the cache for a later one.
pub const AHEAD: usize = 2;

/// `sums[g][p] += weights[c][t][g] * input[c][p + offsets[t]]`, summed over channels and taps, for
/// `GROUP` rows and `WIDTH` vectors of pixels.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// `[channels, offsets.len(), GROUP]`.
    pub weights: *const f32,
    /// The first channel at the first pixel.
    pub input: *const f32,
    /// Distance between channels.
    pub channel_stride: usize,
    pub channels: usize,
    pub offsets: &'a [isize],
    /// `GROUP` rows.
    pub sums: *mut f32,
    /// Distance between rows of sums.
    pub pitch: usize,
    /// Initial values of the sums, one per row; if null, the sums are accumulated onto `sums`.
    pub start: *const f32,
    /// Pixels that are loaded into the cache meanwhile, if there is only one offset; may be null. They may be out of
    /// bounds, because they are only prefetched.
    pub ahead: *const f32,
    /// Distance between channels of `ahead`.
    pub ahead_stride: usize,
}

/// `sums[g][w][lane] += rows[g][p] * columns[w][p]`, summed over `vectors` vectors of pixels.
#[derive(Clone, Copy)]
pub struct Dots {
    pub rows: [*const f32; GROUP],
    pub columns: [*const f32; WIDTH],
    pub vectors: usize,
    /// `[GROUP, WIDTH, LANES]`.
    pub sums: *mut f32,
    /// Whether sums start with zero; otherwise they are accumulated onto `sums`.
    pub start: bool,
    /// Rows that are loaded into the cache meanwhile. They may be shorter, because they are only prefetched.
    pub ahead: [*const f32; AHEAD],
}

#[inline(always)]
pub unsafe fn product<S: Simd, const ROWS: usize>(args: &Product) {
    for first in (0..GROUP).step_by(ROWS) {
        // SAFETY: the caller's pointers are valid for all rows.
        unsafe { product_rows::<S, ROWS>(args, first) }
    }
}

#[inline(always)]
unsafe fn product_rows<S: Simd, const ROWS: usize>(args: &Product, first: usize) {
    // SAFETY: the caller guarantees the instruction set and the extent of every operand.
    unsafe {
        let sums = args.sums.add(first * args.pitch);
        let mut acc = [[S::zero(); WIDTH]; ROWS];
        for row in 0..ROWS {
            for w in 0..WIDTH {
                acc[row][w] = if args.start.is_null() {
                    S::load(sums.add(row * args.pitch + w * S::LANES))
                } else {
                    S::splat(args.start.add(first + row))
                };
            }
        }
        let mut weights = args.weights.add(first);
        let mut input = args.input;
        if let &[offset] = args.offsets {
            let mut ahead = args.ahead;
            input = input.wrapping_offset(offset);
            for _ in 0..args.channels {
                if first == 0 && !ahead.is_null() {
                    for w in 0..WIDTH {
                        S::prefetch(ahead.wrapping_add(w * S::LANES));
                    }
                    ahead = ahead.wrapping_add(args.ahead_stride);
                }
                add_tap::<S, ROWS>(weights, input, &mut acc);
                weights = weights.wrapping_add(GROUP);
                input = input.wrapping_add(args.channel_stride);
            }
        } else {
            for _ in 0..args.channels {
                for &offset in args.offsets {
                    add_tap::<S, ROWS>(weights, input.offset(offset), &mut acc);
                    weights = weights.wrapping_add(GROUP);
                }
                input = input.wrapping_add(args.channel_stride);
            }
        }
        for row in 0..ROWS {
            for w in 0..WIDTH {
                S::store(sums.add(row * args.pitch + w * S::LANES), acc[row][w]);
            }
        }
    }
}

/// Adds the products of one weight of each of `ROWS` outputs and `WIDTH` vectors of pixels.
#[inline(always)]
unsafe fn add_tap<S: Simd, const ROWS: usize>(
    weights: *const f32,
    pixels: *const f32,
    acc: &mut [[S::Vector; WIDTH]; ROWS],
) {
    // SAFETY: the caller guarantees the instruction set and the extent of both operands.
    unsafe {
        let mut vectors = [S::zero(); WIDTH];
        for w in 0..WIDTH {
            vectors[w] = S::load(pixels.add(w * S::LANES));
        }
        for row in 0..ROWS {
            let weight = S::splat(weights.add(row));
            for w in 0..WIDTH {
                acc[row][w] = S::mul_add(weight, vectors[w], acc[row][w]);
            }
        }
    }
}

#[inline(always)]
pub unsafe fn dots<S: Simd, const ROWS: usize>(args: &Dots) {
    for first in (0..GROUP).step_by(ROWS) {
        // SAFETY: the caller's pointers are valid for all rows.
        unsafe { dots_rows::<S, ROWS>(args, first) }
    }
}

#[inline(always)]
unsafe fn dots_rows<S: Simd, const ROWS: usize>(args: &Dots, first: usize) {
    // SAFETY: the caller guarantees the instruction set and the extent of every operand.
    unsafe {
        let sums = args.sums.add(first * WIDTH * S::LANES);
        let mut acc = [[S::zero(); WIDTH]; ROWS];
        for row in 0..ROWS {
            for w in 0..WIDTH {
                if !args.start {
                    acc[row][w] = S::load(sums.add((row * WIDTH + w) * S::LANES));
                }
            }
        }
        let mut rows = [args.rows[0]; ROWS];
        rows.copy_from_slice(&args.rows[first..first + ROWS]);
        for vector in 0..args.vectors {
            let at = vector * S::LANES;
            if first == 0 {
                for row in args.ahead {
                    S::prefetch(row.wrapping_add(at));
                }
            }
            let mut columns = [S::zero(); WIDTH];
            for w in 0..WIDTH {
                columns[w] = S::load(args.columns[w].add(at));
            }
            for row in 0..ROWS {
                let value = S::load(rows[row].add(at));
                for w in 0..WIDTH {
                    acc[row][w] = S::mul_add(value, columns[w], acc[row][w]);
                }
            }
        }
        for row in 0..ROWS {
            for w in 0..WIDTH {
                S::store(sums.add((row * WIDTH + w) * S::LANES), acc[row][w]);
            }
        }
    }
}

/// The sums of the lanes of `sums [GROUP, WIDTH, LANES]`: `[GROUP, WIDTH]`.
#[inline(always)]
pub unsafe fn lane_sums<S: Simd>(sums: *const f32, results: &mut [f32; GROUP * WIDTH]) {
    for (index, result) in results.iter_mut().enumerate() {
        // SAFETY: the caller guarantees the instruction set and the length of `sums`.
        *result = unsafe { S::sum(S::load(sums.add(index * S::LANES))) };
    }
}
