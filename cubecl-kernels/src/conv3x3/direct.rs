//! The forward kernel for software rasterizers: as [`super::kernel`], but each unit reads its operands
//! where they lie. A load costs the same there from shared memory as from anywhere else, one invocation
//! at a time, so that a tile is written and read for nothing.

use super::access::{Four, read_four};
use super::kernel::{Axis, Channels, write};
use super::tiling::Tiling;
use cubecl::prelude::*;

/// What a pixel outside of the input begins at.
const OUTSIDE: u32 = u32::MAX;

/// `input [n, h, w, c]`, `weight [9, c, o]` packed, `bias [o]` -> `output [n, h', w', o]`.
#[cube(launch_unchecked)]
pub fn convolve_direct<E: Float, NI: Size, NO: Size>(
    input: &[Vector<E, NI>],
    weight: &[Vector<E, Four>],
    bias: &[Vector<E, NO>],
    output: &mut [Vector<E, NO>],
    rows: &Axis,
    cols: &Axis,
    channels: &Channels,
    pixels: u32,
    #[comptime] tiling: Tiling,
    #[comptime] relu: bool,
    #[define(E)] _dtype: ElemType,
) {
    let mut sums = Array::<Vector<f32, Four>>::new(comptime!(tiling.rows * tiling.vectors));
    let first_pixel = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) * comptime!(tiling.pixels() as u32);
    let first_vector = CUBE_POS_Y * comptime!(tiling.outputs() as u32);
    for tap_y in 0..rows.taps {
        let tap_row = (rows.tap + tap_y * rows.tap_step) * 3;
        let shift_y = rows.shift + tap_y as i32 * rows.shift_step;
        for tap_x in 0..cols.taps {
            let tap = tap_row + cols.tap + tap_x * cols.tap_step;
            let shift_x = cols.shift + tap_x as i32 * cols.shift_step;
            let mut begins = Array::<u32>::new(tiling.rows);
            #[unroll]
            for row in 0..tiling.rows {
                let pixel = first_pixel + UNIT_POS_Y + comptime!((row * tiling.units_y) as u32);
                begins[row] = begin(pixel, pixels, shift_y, shift_x, rows, cols, channels);
            }
            for step in 0..channels.steps {
                multiply(
                    input,
                    weight,
                    &mut sums,
                    &begins,
                    step,
                    (tap * channels.steps + step) * 4 * channels.pitch + first_vector + UNIT_POS_X,
                    channels,
                    tiling,
                );
            }
        }
    }
    write(
        output,
        bias,
        &sums,
        first_pixel,
        first_vector,
        pixels,
        rows,
        cols,
        channels,
        tiling,
        relu,
    );
}

/// Where the channels begin of what a tap reads for an output pixel.
#[cube]
fn begin(
    pixel: u32,
    pixels: u32,
    shift_y: i32,
    shift_x: i32,
    rows: &Axis,
    cols: &Axis,
    channels: &Channels,
) -> u32 {
    let line = pixel / cols.count;
    // Below zero wraps to far above the size.
    let row = ((line % rows.count) as i32 * rows.input_stride + shift_y) as u32;
    let col = ((pixel % cols.count) as i32 * cols.input_stride + shift_x) as u32;
    let place = (line / rows.count * rows.input + row) * cols.input + col;
    let mut begin = OUTSIDE.runtime();
    if pixel < pixels && row < rows.input && col < cols.input {
        begin = place * channels.input;
    }
    begin
}

/// Adds the products of four input channels. `first` is the first of the unit's weights.
#[cube]
fn multiply<E: Float, N: Size>(
    input: &[Vector<E, N>],
    weight: &[Vector<E, Four>],
    sums: &mut Array<Vector<f32, Four>>,
    begins: &Array<u32>,
    step: u32,
    first: u32,
    channels: &Channels,
    #[comptime] tiling: Tiling,
) {
    let mut inputs = Array::<Vector<f32, Four>>::new(tiling.rows);
    let mut weights = Array::<Vector<f32, Four>>::new(4usize);
    #[unroll]
    for row in 0..tiling.rows {
        let mut value = Vector::<f32, Four>::new(0.0f32);
        if begins[row] != OUTSIDE {
            value = read_four(input, begins[row], step * 4, channels.input);
        }
        inputs[row] = value;
    }
    #[unroll]
    for vector in 0..tiling.vectors {
        let column = first + comptime!((vector * tiling.units_x) as u32);
        #[unroll]
        for lane in 0..4usize {
            let offset = column + comptime!(lane as u32) * channels.pitch;
            weights[lane] = Vector::cast_from(weight[offset as usize]);
        }
        #[unroll]
        for row in 0..tiling.rows {
            let sum = comptime!(row * tiling.vectors + vector);
            #[unroll]
            for lane in 0..4usize {
                sums[sum] += Vector::new(inputs[row].extract(lane)) * weights[lane];
            }
        }
    }
}
