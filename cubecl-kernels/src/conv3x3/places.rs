//! Positions of the pixels that a unit loads for the gradient of the weights.

use super::tiling::{GradientSizes, GradientTiling};
use cubecl::prelude::*;

/// Positions in the output, as image, row and column, of the pixels that a unit loads.
#[derive(CubeType)]
pub struct Places {
    pub images: Array<u32>,
    pub rows: Array<u32>,
    pub cols: Array<u32>,
}

/// The first positions of the pixels of a cube that start at `start`.
#[cube]
pub fn places(start: u32, sizes: &GradientSizes, #[comptime] tiling: GradientTiling) -> Places {
    let loads = comptime!(tiling.input_loads());
    let mut images = Array::<u32>::new(loads);
    let mut rows = Array::<u32>::new(loads);
    let mut cols = Array::<u32>::new(loads);
    #[unroll]
    for load in 0..loads {
        let index = UNIT_POS + comptime!((load * tiling.units()) as u32);
        let pixel = start + index / comptime!(tiling.inputs() as u32);
        let line = pixel / sizes.output_cols;
        images[load] = line / sizes.output_rows;
        rows[load] = line % sizes.output_rows;
        cols[load] = pixel % sizes.output_cols;
    }
    Places { images, rows, cols }
}

/// Advances a position by a step, as an addition in mixed radix without division.
#[cube]
pub fn advance(places: &mut Places, #[comptime] load: usize, sizes: &GradientSizes) {
    let col = places.cols[load] + sizes.step_cols;
    let carry = u32::cast_from(col >= sizes.output_cols);
    places.cols[load] = col - carry * sizes.output_cols;
    let row = places.rows[load] + sizes.step_rows + carry;
    let carry = u32::cast_from(row >= sizes.output_rows);
    places.rows[load] = row - carry * sizes.output_rows;
    places.images[load] = places.images[load] + sizes.step_images + carry;
}
