//! Gradient of the weights: an implicit GEMM of (tap, input channel) by output channel over all pixels. The pixels are
//! split between cubes, whose partial sums are then added in a fixed order.

use super::access::{Four, read_four};
use super::places::{Places, advance, places};
use super::tiling::{GradientSizes, GradientTiling};
use cubecl::prelude::*;

/// The part of the input that a unit reads: channels from `channel` on under one tap.
#[derive(CubeType, Clone, Copy)]
struct Column {
    channel: u32,
    shift_y: u32,
    shift_x: u32,
}

/// `input [n, h, w, c]`, `grad [n, h', w', o]` -> `partials [splits, 9, c, o]` in vectors of four
/// output channels; c and o are padded to multiples of four.
#[cube(launch_unchecked)]
pub fn accumulate<E: Float, NI: Size, NO: Size>(
    input: &[Vector<E, NI>],
    grad: &[Vector<E, NO>],
    partials: &mut [Vector<f32, Four>],
    sizes: &GradientSizes,
    #[comptime] tiling: GradientTiling,
    #[define(E)] _dtype: ElemType,
) {
    let mut input_tile =
        Shared::<[Vector<f32, Four>]>::new_slice(comptime!(tiling.depth * tiling.inputs()));
    let mut grad_tile =
        Shared::<[Vector<f32, Four>]>::new_slice(comptime!(tiling.depth * tiling.outputs()));
    let mut sums = Array::<Vector<f32, Four>>::new(comptime!(4 * tiling.rows * tiling.vectors));

    let input_vectors = sizes.inputs.div_ceil(4);
    let first_row = CUBE_POS_Y * comptime!(tiling.inputs() as u32);
    let first_vector = CUBE_POS_X * comptime!(tiling.outputs() as u32);
    let start = CUBE_POS_Z * sizes.pixels_per_cube;
    let end = min(start + sizes.pixels_per_cube, sizes.pixels);

    let column = column(first_row, input_vectors, sizes, tiling);
    let mut places = places(start, sizes, tiling);
    for pixel in range_stepped(start, end, comptime!(tiling.depth as u32)) {
        stage_input(
            input,
            &mut input_tile,
            &mut places,
            &column,
            pixel,
            end,
            sizes,
            tiling,
        );
        stage_grad(
            grad,
            &mut grad_tile,
            first_vector,
            pixel,
            end,
            sizes,
            tiling,
        );
        sync_cube();
        multiply(&input_tile, &grad_tile, &mut sums, tiling);
        sync_cube();
    }
    write(
        partials,
        &sums,
        first_row,
        first_vector,
        input_vectors,
        sizes,
        tiling,
    );
}

#[cube]
fn column(
    first_row: u32,
    input_vectors: u32,
    sizes: &GradientSizes,
    #[comptime] tiling: GradientTiling,
) -> Column {
    let row = first_row + UNIT_POS % comptime!(tiling.inputs() as u32);
    let tap = row / input_vectors;
    // Nothing is read past the last tap.
    let channel = select(tap < 9, row % input_vectors * 4, sizes.inputs);
    Column {
        channel,
        shift_y: tap / 3,
        shift_x: tap % 3,
    }
}

#[cube]
fn stage_input<E: Float, N: Size>(
    input: &[Vector<E, N>],
    tile: &mut Shared<[Vector<f32, Four>]>,
    places: &mut Places,
    column: &Column,
    first: u32,
    end: u32,
    sizes: &GradientSizes,
    #[comptime] tiling: GradientTiling,
) {
    #[unroll]
    for load in 0..comptime!(tiling.input_loads()) {
        let index = UNIT_POS + comptime!((load * tiling.units()) as u32);
        // The padding is one, and positions above and left of the image wrap to large values.
        let row = places.rows[load] * sizes.stride + column.shift_y - 1;
        let col = places.cols[load] * sizes.stride + column.shift_x - 1;
        let pixel = first + index / comptime!(tiling.inputs() as u32);
        let mut value = Vector::<f32, Four>::new(0.0f32);
        if pixel < end && row < sizes.input_rows && col < sizes.input_cols {
            let place = (places.images[load] * sizes.input_rows + row) * sizes.input_cols + col;
            value = read_four(input, place * sizes.inputs, column.channel, sizes.inputs);
        }
        tile[index as usize] = value;
        advance(places, load, sizes);
    }
}

#[cube]
fn stage_grad<E: Float, N: Size>(
    grad: &[Vector<E, N>],
    tile: &mut Shared<[Vector<f32, Four>]>,
    first_vector: u32,
    first: u32,
    end: u32,
    sizes: &GradientSizes,
    #[comptime] tiling: GradientTiling,
) {
    let outputs = comptime!(tiling.outputs() as u32);
    let channel = (first_vector + UNIT_POS % outputs) * 4;
    #[unroll]
    for load in 0..comptime!(tiling.grad_loads()) {
        let index = UNIT_POS + comptime!((load * tiling.units()) as u32);
        let pixel = first + index / outputs;
        let mut value = Vector::<f32, Four>::new(0.0f32);
        if pixel < end {
            value = read_four(grad, pixel * sizes.outputs, channel, sizes.outputs);
        }
        tile[index as usize] = value;
    }
}

#[cube]
fn multiply(
    input_tile: &Shared<[Vector<f32, Four>]>,
    grad_tile: &Shared<[Vector<f32, Four>]>,
    sums: &mut Array<Vector<f32, Four>>,
    #[comptime] tiling: GradientTiling,
) {
    let mut inputs = Array::<Vector<f32, Four>>::new(comptime!(4 * tiling.rows));
    let mut grads = Array::<Vector<f32, Four>>::new(4usize);
    for step in 0..comptime!(tiling.depth as u32 / 4) {
        #[unroll]
        for row in 0..tiling.rows {
            let line = UNIT_POS_Y + comptime!((row * tiling.units_y) as u32);
            #[unroll]
            for part in 0..4usize {
                let pixel = step * 4 + comptime!(part as u32);
                inputs[comptime!(row * 4 + part)] =
                    input_tile[(pixel * comptime!(tiling.inputs() as u32) + line) as usize];
            }
        }
        #[unroll]
        for vector in 0..tiling.vectors {
            let column = UNIT_POS_X + comptime!((vector * tiling.units_x) as u32);
            #[unroll]
            for part in 0..4usize {
                let pixel = step * 4 + comptime!(part as u32);
                grads[part] =
                    grad_tile[(pixel * comptime!(tiling.outputs() as u32) + column) as usize];
            }
            // The four pixels of a sum are added in sequence, so that it stays in a register.
            #[unroll]
            for line in 0..comptime!(4 * tiling.rows) {
                let sum = comptime!(line * tiling.vectors + vector);
                #[unroll]
                for part in 0..4usize {
                    let input = inputs[comptime!(line / 4 * 4 + part)];
                    sums[sum] += Vector::new(input.extract(comptime!(line % 4))) * grads[part];
                }
            }
        }
    }
}

#[cube]
fn write(
    partials: &mut [Vector<f32, Four>],
    sums: &Array<Vector<f32, Four>>,
    first_row: u32,
    first_vector: u32,
    input_vectors: u32,
    sizes: &GradientSizes,
    #[comptime] tiling: GradientTiling,
) {
    let lines = 9 * input_vectors;
    let pitch = sizes.outputs.div_ceil(4);
    #[unroll]
    for row in 0..tiling.rows {
        let line = first_row + UNIT_POS_Y + comptime!((row * tiling.units_y) as u32);
        #[unroll]
        for vector in 0..tiling.vectors {
            let column = first_vector + UNIT_POS_X + comptime!((vector * tiling.units_x) as u32);
            if line < lines && column < pitch {
                #[unroll]
                for lane in 0..4usize {
                    let place = (CUBE_POS_Z * lines + line) * 4 + comptime!(lane as u32);
                    partials[(place * pitch + column) as usize] =
                        sums[comptime!((row * 4 + lane) * tiling.vectors + vector)];
                }
            }
        }
    }
}

/// Adds the `splits` of `partials [splits, 9, c, o]`, both padded, into `gradient [o, c, 3, 3]`.
#[cube(launch_unchecked)]
pub fn reduce<E: Float>(
    partials: &[f32],
    gradient: &mut [E],
    inputs: u32,
    outputs: u32,
    splits: u32,
    #[define(E)] _dtype: ElemType,
) {
    reduce_line::<E>(partials, gradient, ABSOLUTE_POS_Y, inputs, outputs, splits);
}

/// The sum of [`reduce`] for output channel `ABSOLUTE_POS_X`; `line` is the tap and the input channel.
#[cube]
pub fn reduce_line<E: Float>(
    partials: &[f32],
    gradient: &mut [E],
    line: u32,
    inputs: u32,
    outputs: u32,
    splits: u32,
) {
    let output = ABSOLUTE_POS_X;
    let padded_inputs = inputs.div_ceil(4) * 4;
    let padded_outputs = outputs.div_ceil(4) * 4;
    let tap = line / padded_inputs;
    let input = line % padded_inputs;
    if output < outputs && input < inputs && tap < 9 {
        let mut sum = 0.0f32;
        for split in 0..splits {
            let place = (split * 9 * padded_inputs + line) * padded_outputs + output;
            sum += partials[place as usize];
        }
        gradient[((output * inputs + input) * 9 + tap) as usize] = E::cast_from(sum);
    }
}
