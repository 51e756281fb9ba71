//! Forward kernel: an implicit GEMM of output pixels by output channels over taps and input channels. With transposed
//! weights it also computes the gradient of the input.

use super::access::{Four, read_four, write_four};
use super::tiling::Tiling;
use cubecl::prelude::*;

/// One spatial axis: the outputs of a launch, and the inputs of each tap.
///
/// Output `p` of the launch is `p * output_stride + phase` of the tensor. Its tap `t` reads input
/// `p * input_stride + shift + t * shift_step` with row `tap + t * tap_step` of the 3x3 weights.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Axis {
    /// Number of outputs of the launch.
    pub count: u32,
    /// Size of the input.
    pub input: u32,
    /// Size of the output.
    pub output: u32,
    /// Step between inputs.
    pub input_stride: i32,
    /// Step between outputs.
    pub output_stride: u32,
    /// Index of the first output.
    pub phase: u32,
    /// Taps of the 3x3 weights that reach these outputs.
    pub taps: u32,
    /// Index of the first tap in the 3x3 weights.
    pub tap: u32,
    /// Step between consecutive taps in the 3x3 weights.
    pub tap_step: u32,
    /// Offset from the position of the output to the input of the first tap.
    pub shift: i32,
    /// Step between the inputs of consecutive taps.
    pub shift_step: i32,
}

/// Numbers of channels, and their padding in the packed weights.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Channels {
    /// Channels of the input.
    pub input: u32,
    /// Channels of the output.
    pub output: u32,
    /// Steps of the reduction per tap.
    pub steps: u32,
    /// Vectors of output channels of the packed weights.
    pub pitch: u32,
}

/// Positions of the first inputs that a unit loads into the input tile, for the center of the window.
#[derive(CubeType)]
struct Origins {
    rows: Array<i32>,
    cols: Array<i32>,
    images: Array<u32>,
}

/// `input [n, h, w, c]`, `weight [9, c, o]` packed, `bias [o]` -> `output [n, h', w', o]`.
#[cube(launch_unchecked)]
pub fn convolve<E: Float, NI: Size, NO: Size>(
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
    let mut input_tile =
        Shared::<[Vector<f32, Four>]>::new_slice(comptime!(tiling.pixels() * tiling.pitch()));
    let mut weight_tile =
        Shared::<[Vector<f32, Four>]>::new_slice(comptime!(4 * tiling.depth * tiling.outputs()));
    let mut sums = Array::<Vector<f32, Four>>::new(comptime!(tiling.rows * tiling.vectors));

    let first_pixel = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) * comptime!(tiling.pixels() as u32);
    let first_vector = CUBE_POS_Y * comptime!(tiling.outputs() as u32);
    let origins = origins(first_pixel, pixels, rows, cols, tiling);
    let steps = channels.steps;

    for tap_y in 0..rows.taps {
        let shift_y = rows.shift + tap_y as i32 * rows.shift_step;
        let tap_row = (rows.tap + tap_y * rows.tap_step) * 3;
        for tap_x in 0..cols.taps {
            let shift_x = cols.shift + tap_x as i32 * cols.shift_step;
            let tap = tap_row + cols.tap + tap_x * cols.tap_step;
            for step in 0..steps {
                stage_input(
                    input,
                    &mut input_tile,
                    &origins,
                    shift_y,
                    shift_x,
                    step,
                    rows,
                    cols,
                    channels,
                    tiling,
                );
                let first_row = (tap * steps + step) * comptime!(4 * tiling.depth as u32);
                stage_weight(
                    weight,
                    &mut weight_tile,
                    first_row,
                    first_vector,
                    channels.pitch,
                    tiling,
                );
                sync_cube();
                multiply(&input_tile, &weight_tile, &mut sums, tiling);
                sync_cube();
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

#[cube]
fn origins(
    first_pixel: u32,
    pixels: u32,
    rows: &Axis,
    cols: &Axis,
    #[comptime] tiling: Tiling,
) -> Origins {
    let loads = comptime!(tiling.input_loads());
    let mut row_origins = Array::<i32>::new(loads);
    let mut col_origins = Array::<i32>::new(loads);
    let mut images = Array::<u32>::new(loads);
    let first = first_pixel + UNIT_POS / comptime!(tiling.depth as u32);
    #[unroll]
    for load in 0..loads {
        let pixel = first + comptime!((load * tiling.units() / tiling.depth) as u32);
        let row = pixel / cols.count;
        let image = row / rows.count;
        // Pixels past the last one are so far below that no tap reads them.
        let row_in_image = select(pixel < pixels, (row % rows.count) as i32, 1i32 << 28);
        row_origins[load] = row_in_image * rows.input_stride;
        col_origins[load] = (pixel % cols.count) as i32 * cols.input_stride;
        images[load] = image * rows.input * cols.input;
    }
    Origins {
        rows: row_origins,
        cols: col_origins,
        images,
    }
}

#[cube]
fn stage_input<E: Float, N: Size>(
    input: &[Vector<E, N>],
    tile: &mut Shared<[Vector<f32, Four>]>,
    origins: &Origins,
    shift_y: i32,
    shift_x: i32,
    step: u32,
    rows: &Axis,
    cols: &Axis,
    channels: &Channels,
    #[comptime] tiling: Tiling,
) {
    let depth = comptime!(tiling.depth as u32);
    let vector = UNIT_POS % depth;
    let first = UNIT_POS / depth;
    let channel = (step * depth + vector) * 4;
    #[unroll]
    for load in 0..comptime!(tiling.input_loads()) {
        // Negative positions wrap to values far above the size.
        let row = (origins.rows[load] + shift_y) as u32;
        let col = (origins.cols[load] + shift_x) as u32;
        let mut value = Vector::<f32, Four>::new(0.0f32);
        if row < rows.input && col < cols.input {
            let pixel = origins.images[load] + row * cols.input + col;
            value = read_four(input, pixel * channels.input, channel, channels.input);
        }
        let pixel = first + comptime!((load * tiling.units() / tiling.depth) as u32);
        let place = (pixel * comptime!(tiling.pitch() as u32) + vector) as usize;
        if comptime!(tiling.loads_evenly()) || pixel < comptime!(tiling.pixels() as u32) {
            tile[place] = value;
        }
    }
}

#[cube]
fn stage_weight<E: Float>(
    weight: &[Vector<E, Four>],
    tile: &mut Shared<[Vector<f32, Four>]>,
    first_row: u32,
    first_vector: u32,
    pitch: u32,
    #[comptime] tiling: Tiling,
) {
    let outputs = comptime!(tiling.outputs() as u32);
    #[unroll]
    for load in 0..comptime!(tiling.weight_loads()) {
        let index = UNIT_POS + comptime!((load * tiling.units()) as u32);
        let offset = (first_row + index / outputs) * pitch + first_vector + index % outputs;
        tile[index as usize] = Vector::cast_from(weight[offset as usize]);
    }
}

#[cube]
fn multiply(
    input_tile: &Shared<[Vector<f32, Four>]>,
    weight_tile: &Shared<[Vector<f32, Four>]>,
    sums: &mut Array<Vector<f32, Four>>,
    #[comptime] tiling: Tiling,
) {
    let mut inputs = Array::<Vector<f32, Four>>::new(tiling.rows);
    let mut weights = Array::<Vector<f32, Four>>::new(4usize);
    for step in 0..comptime!(tiling.depth as u32) {
        #[unroll]
        for row in 0..tiling.rows {
            let pixel = UNIT_POS_Y + comptime!((row * tiling.units_y) as u32);
            inputs[row] = input_tile[(pixel * comptime!(tiling.pitch() as u32) + step) as usize];
        }
        #[unroll]
        for vector in 0..tiling.vectors {
            let column = UNIT_POS_X + comptime!((vector * tiling.units_x) as u32);
            #[unroll]
            for lane in 0..4usize {
                let line = step * 4 + comptime!(lane as u32);
                weights[lane] =
                    weight_tile[(line * comptime!(tiling.outputs() as u32) + column) as usize];
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
}

#[cube]
fn write<E: Float, N: Size>(
    output: &mut [Vector<E, N>],
    bias: &[Vector<E, N>],
    sums: &Array<Vector<f32, Four>>,
    first_pixel: u32,
    first_vector: u32,
    pixels: u32,
    rows: &Axis,
    cols: &Axis,
    channels: &Channels,
    #[comptime] tiling: Tiling,
    #[comptime] relu: bool,
) {
    #[unroll]
    for row in 0..tiling.rows {
        let pixel = first_pixel + UNIT_POS_Y + comptime!((row * tiling.units_y) as u32);
        if pixel < pixels {
            let line = pixel / cols.count;
            let y = line % rows.count * rows.output_stride + rows.phase;
            let x = pixel % cols.count * cols.output_stride + cols.phase;
            let place = (line / rows.count * rows.output + y) * cols.output + x;
            #[unroll]
            for vector in 0..tiling.vectors {
                let column =
                    first_vector + UNIT_POS_X + comptime!((vector * tiling.units_x) as u32);
                write_four(
                    output,
                    bias,
                    sums[comptime!(row * tiling.vectors + vector)],
                    place * channels.output,
                    column * 4,
                    channels.output,
                    relu,
                );
            }
        }
    }
}
