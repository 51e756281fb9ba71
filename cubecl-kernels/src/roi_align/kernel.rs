//! Forward kernel of RoIAlign.
//!
//! A unit pools one bin. Computing the taps of the bin costs more than pooling a vector of channels, so each unit pools
//! a slice of `per_unit` vectors, `slice_count` apart, such that neighboring units read neighboring vectors.

use super::RECORD;
use super::record::{ABSENT, Axis, COLUMNS, ROWS};
use cubecl::{prelude::*, std::FastDivmod};

/// `pyramid [cells, c]`, `records` -> `pooled [r, bins_y, bins_x, c]`, summed in f32.
///
/// `shape` is `[bins_y, bins_x, slice_count]`, `units` its product with the number of RoIs.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
pub(super) fn pool_rois<E: Float, N: Size>(
    pyramid: &[Vector<E, N>],
    records: &[u32],
    pooled: &mut [Vector<E, N>],
    shape: Sequence<FastDivmod<usize>>,
    slice_count: usize,
    units: usize,
    #[comptime] per_unit: usize,
    #[comptime] zero_padding: bool,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (bin, slice) = shape[2].div_mod(ABSOLUTE_POS);
    let (row, column) = shape[1].div_mod(bin);
    let (roi, row) = shape[0].div_mod(row);
    let record = roi * RECORD;
    let first_cell = records[record];

    let mut sums = Array::<Vector<f32, N>>::new(per_unit);
    #[unroll]
    for k in 0..per_unit {
        sums[k] = Vector::new(0.0f32);
    }
    if first_cell != ABSENT {
        let rows = Axis::read(records, record + ROWS);
        let columns = Axis::read(records, record + COLUMNS);
        let map = first_cell as usize * slice_count * per_unit + slice;
        pool_bin::<E, N>(
            pyramid,
            &rows,
            &columns,
            row as u32,
            column as u32,
            map,
            slice_count,
            per_unit,
            zero_padding,
            &mut sums,
        );
    }
    let at = bin * slice_count * per_unit + slice;
    #[unroll]
    for k in 0..per_unit {
        pooled[at + k * slice_count] = Vector::cast_from(sums[k]);
    }
}

/// Adds the cells that a bin reads, each once; `map` is where the slice of the level begins.
#[cube]
#[allow(clippy::too_many_arguments)]
fn pool_bin<E: Float, N: Size>(
    pyramid: &[Vector<E, N>],
    rows: &Axis,
    columns: &Axis,
    row: u32,
    column: u32,
    map: usize,
    slice_count: usize,
    #[comptime] per_unit: usize,
    #[comptime] zero_padding: bool,
    sums: &mut Array<Vector<f32, N>>,
) {
    let (first_y, end_y) = rows.cells_of(row);
    let (first_x, end_x) = columns.cells_of(column);
    for y in first_y..end_y {
        let down = rows.weight(row, y, zero_padding);
        if down != 0.0f32 {
            for x in first_x..end_x {
                let weight = down * columns.weight(column, x, zero_padding);
                if weight != 0.0f32 {
                    let cell = (y * columns.size + x) as usize;
                    let at = map + cell * slice_count * per_unit;
                    #[unroll]
                    for k in 0..per_unit {
                        let value = Vector::<f32, N>::cast_from(pyramid[at + k * slice_count]);
                        sums[k] += value * Vector::new(weight);
                    }
                }
            }
        }
    }
}
