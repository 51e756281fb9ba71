//! Gradient of the bias: the sums of the gradient per channel, in the launches of the gradient of the weights. The
//! launch that copies the gradient into a grid also adds its pixels, and the launch that adds the partial products also
//! adds the partial sums. A launch of its own would read the gradient again.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]

use super::access::Four;
use super::spread::{Grid, PixelSizes, Spread, vector_in_grid};
use super::weight_gradient::reduce_line;
use crate::launch::{UNITS, buffer, elementwise, empty};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Channels per vector.
const WIDTH: usize = 4;

/// Vectors that a unit loads before it stores the first.
const BATCH: usize = 4;

/// Maximum number of cubes that add pixels: enough for a GPU, but so few that adding their sums takes a few loads per
/// unit.
const MAX_CUBES: usize = 1024;

/// Units per cube of [`reduce_and_sum`] along the output channels.
const COLUMNS: u32 = 32;

/// Units per cube of [`reduce_and_sum`] along the taps and input channels.
const LINES: u32 = UNITS / COLUMNS;

/// Whether [`spread_with_sums`] supports this number of channels of the gradient: each unit of a cube adds vectors of
/// the same channels.
pub fn can_sum(channels: usize) -> bool {
    channels.is_multiple_of(WIDTH) && (UNITS as usize).is_multiple_of(channels / WIDTH)
}

/// Adds the vectors of units with the same position modulo `least`, a power of two, in a fixed order. The sums are the
/// first `least` elements of `shared`, which has one element per unit. Every unit of the cube must call it.
#[cube]
fn add_units(shared: &mut Shared<[Vector<f32, Four>]>, own: Vector<f32, Four>, least: u32) {
    shared[UNIT_POS as usize] = own;
    sync_cube();
    let mut half = (UNITS / 2).runtime();
    while half >= least {
        if UNIT_POS < half {
            let sum = shared[UNIT_POS as usize] + shared[(UNIT_POS + half) as usize];
            shared[UNIT_POS as usize] = sum;
        }
        sync_cube();
        half /= 2;
    }
}

/// Writes `batches` times [`BATCH`] vectors of `output [total, c]`, every [`UNITS`]-th one from `first` on, and returns
/// their sum.
#[cube]
fn spread_and_add<E: Float>(
    pixels: &[Vector<E, Four>],
    output: &mut [Vector<E, Four>],
    sizes: &PixelSizes,
    grid: &Grid,
    units: usize,
    first: usize,
    batches: u32,
) -> Vector<f32, Four> {
    let mut sum = Vector::<f32, Four>::new(0.0f32);
    for batch in 0..batches {
        let start = first + batch as usize * comptime!(BATCH * UNITS as usize);
        let mut values = Array::<Vector<f32, Four>>::new(comptime!(BATCH));
        // All loads of a batch come before its stores, because compilers do not move loads across stores.
        #[unroll]
        for step in 0..comptime!(BATCH) {
            let unit = start + comptime!(step * UNITS as usize);
            values[step] = vector_in_grid::<E, Four>(pixels, sizes, grid, unit);
        }
        #[unroll]
        for step in 0..comptime!(BATCH) {
            let unit = start + comptime!(step * UNITS as usize);
            let value = values[step];
            // Vectors beyond the output are zero.
            if unit < units {
                output[unit] = Vector::cast_from(value);
            }
            sum += value;
        }
    }
    sum
}

/// The first `cubes` cubes write `grad_output [total, o]` and `sums [cubes, o]`, each the sum of the vectors that its
/// cube writes; `vectors` is `o / 4`. The other cubes write `input_output [total, c]`, one vector per unit.
#[cube(launch_unchecked, address_type = "dynamic")]
fn spread_and_sum<E: Float>(
    grad: &[Vector<E, Four>],
    grad_output: &mut [Vector<E, Four>],
    grad_sizes: &PixelSizes,
    grad_grid: &Grid,
    grad_units: usize,
    sums: &mut [Vector<f32, Four>],
    vectors: u32,
    batches: u32,
    cubes: usize,
    input: &[Vector<E, Four>],
    input_output: &mut [Vector<E, Four>],
    input_sizes: &PixelSizes,
    input_grid: &Grid,
    input_units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::<[Vector<f32, Four>]>::new_slice(UNITS as usize);
    if CUBE_POS < cubes {
        let cube = CUBE_POS * batches as usize;
        let first = cube * comptime!(BATCH * UNITS as usize) + UNIT_POS as usize;
        let own = spread_and_add::<E>(
            grad,
            grad_output,
            grad_sizes,
            grad_grid,
            grad_units,
            first,
            batches,
        );
        add_units(&mut shared, own, vectors);
        if UNIT_POS < vectors {
            let place = CUBE_POS * vectors as usize + UNIT_POS as usize;
            sums[place] = shared[UNIT_POS as usize];
        }
    } else {
        let unit = (CUBE_POS - cubes) * comptime!(UNITS as usize) + UNIT_POS as usize;
        if unit < input_units {
            let value = vector_in_grid::<E, Four>(input, input_sizes, input_grid, unit);
            input_output[unit] = Vector::cast_from(value);
        }
    }
}

/// [`reduce`](super::weight_gradient::reduce) and, in the first `sum_lines` lines of cubes, the sum of
/// `sums [rows, o]` into `bias_gradient [o]`, one vector per cube.
#[cube(launch_unchecked)]
fn reduce_and_sum<E: Float>(
    partials: &[f32],
    gradient: &mut [E],
    sums: &[Vector<f32, Four>],
    bias_gradient: &mut [Vector<E, Four>],
    inputs: u32,
    outputs: u32,
    splits: u32,
    rows: u32,
    sum_lines: u32,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::<[Vector<f32, Four>]>::new_slice(UNITS as usize);
    if CUBE_POS_Y < sum_lines {
        let vectors = outputs / 4;
        let vector = CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X;
        let mut own = Vector::<f32, Four>::new(0.0f32);
        if vector < vectors {
            let mut row = UNIT_POS;
            while row < rows {
                own += sums[(row * vectors + vector) as usize];
                row += UNITS;
            }
        }
        add_units(&mut shared, own, 1u32);
        if UNIT_POS == 0 && vector < vectors {
            let sum = shared[0];
            bias_gradient[vector as usize] = Vector::cast_from(sum);
        }
    } else {
        let line = ABSOLUTE_POS_Y - sum_lines * LINES;
        reduce_line::<E>(partials, gradient, line, inputs, outputs, splits);
    }
}

/// Number of cubes that add pixels, and of batches per unit, for a gradient with this number of vectors. Depends on
/// sizes only, so that sums are repeatable.
fn cubes_and_batches(vectors: usize) -> [usize; 2] {
    let blocks = vectors.div_ceil(BATCH * UNITS as usize);
    let batches = blocks.div_ceil(MAX_CUBES).max(1);
    [blocks.div_ceil(batches), batches]
}

/// An input and a gradient in their grids, as [`spread_both`](super::spread::spread_both), and partial sums of the
/// gradient per channel, `[cubes, o]` in f32. The number of channels of the input must be a multiple of four, and
/// that of the gradient one that [`can_sum`] supports.
pub fn spread_with_sums([input, grad]: [Spread; 2]) -> ([CubeTensor; 2], CubeTensor) {
    let (dtype, channels) = (grad.pixels.dtype, grad.channels());
    assert_eq!(
        input.pixels.dtype, dtype,
        "spread_with_sums: the inputs must have one dtype"
    );
    let [input_pixels, input_output] = input.buffers();
    let [grad_pixels, grad_output] = grad.buffers();
    let (input_sizes, input_grid, input_units) = input.sizes(WIDTH);
    let (grad_sizes, grad_grid, grad_units) = grad.sizes(WIDTH);
    let [cubes, batches] = cubes_and_batches(grad_units);
    let sums = empty(&grad_output, [cubes, channels], DType::F32);
    let units = cubes * UNITS as usize + input_units;
    let (count, cube) = elementwise(&grad_output, units);
    let address = grad_output.required_address_type();
    // SAFETY: the buffers are dense, pixels are read below their sizes, units beyond the outputs write nothing, and
    // each of the first cubes writes its own row of the sums.
    unsafe {
        spread_and_sum::launch_unchecked(
            &grad_output.client,
            count,
            cube,
            address.max(input_output.required_address_type()),
            buffer(&grad_pixels),
            buffer(&grad_output),
            grad_sizes,
            grad_grid,
            grad_units,
            buffer(&sums),
            (channels / WIDTH) as u32,
            batches as u32,
            cubes,
            buffer(&input_pixels),
            buffer(&input_output),
            input_sizes,
            input_grid,
            input_units,
            dtype_to_storage_type(dtype),
        );
    }
    ([input_output, grad_output], sums)
}

/// The gradients of weights and bias, `[o, c, 3, 3]` and `[o]`, from `partials [splits, 9, c, o]` and
/// `sums [rows, o]`, both f32. The numbers of channels are multiples of four.
pub fn reduce_with_sums(
    partials: CubeTensor,
    sums: CubeTensor,
    splits: usize,
    [c, o]: [usize; 2],
    dtype: DType,
) -> (CubeTensor, CubeTensor) {
    let gradient = empty(&partials, [o, c, 3, 3], dtype);
    let bias_gradient = empty(&partials, [o], dtype);
    let columns = o.div_ceil(COLUMNS as usize);
    let sum_lines = (o / WIDTH).div_ceil(columns);
    let lines = sum_lines + (9 * c).div_ceil(LINES as usize);
    // SAFETY: the partial sums are those of all splits and rows, and units beyond the channels write nothing.
    unsafe {
        reduce_and_sum::launch_unchecked(
            &gradient.client,
            CubeCount::Static(columns as u32, lines as u32, 1),
            CubeDim::new_2d(COLUMNS, LINES),
            buffer(&partials),
            buffer(&gradient),
            buffer(&sums),
            buffer(&bias_gradient),
            c as u32,
            o as u32,
            splits as u32,
            sums.meta.shape()[0] as u32,
            sum_lines as u32,
            dtype_to_storage_type(dtype),
        );
    }
    (gradient, bias_gradient)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
