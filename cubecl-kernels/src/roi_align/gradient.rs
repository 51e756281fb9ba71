//! Backward kernels, in gather form: one unit sums each vector of channels of each cell in the order of the RoIs and
//! their bins, without atomics and with the same bits in every run.
//!
//! To avoid visiting all RoIs per cell, the maps are split into square tiles, and a first kernel marks the RoIs that
//! reach each tile.

use super::RECORD;
use super::record::{ABSENT, Axis, COLUMNS, Level, ROWS};
use cubecl::{prelude::*, std::FastDivmod};

/// Side of a tile in cells, small enough that an RoI which reaches a tile contributes to most of its cells.
pub(super) const TILE: u32 = 8;

/// The marks of a tile are groups of words with 32 RoIs each, and each group starts with a word of flags for its
/// nonzero words. So there are few words to scan, and few RoIs per unit to mark.
const WORDS: u32 = 8;
pub(super) const GROUP: u32 = WORDS * 32;
pub(super) const GROUP_WORDS: usize = WORDS as usize + 1;

/// Sizes of the gradient maps.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(super) struct Maps {
    pub roi_count: u32,
    /// Groups of RoIs per tile.
    pub groups: u32,
    /// Tiles per image.
    pub tiles: u32,
    /// Bins per RoI.
    pub bins_y: u32,
    pub bins_x: u32,
}

/// Position of a tile: the first cell of its image in its level, and its first row and column.
#[derive(CubeType)]
struct Tile {
    first_cell: u32,
    height: u32,
    width: u32,
    row: u32,
    column: u32,
}

#[cube]
impl Tile {
    fn locate(tile: u32, levels: &Sequence<Level>, maps: &Maps) -> Tile {
        let image = tile / maps.tiles;
        let within = tile % maps.tiles;
        let mut height = 0u32;
        let mut width = 0u32;
        let mut first_cell = 0u32;
        let mut first_tile = 0u32;
        let level_count = comptime![levels.len()];
        #[unroll]
        for i in 0..level_count {
            let level = levels.index(i);
            if within >= level.first_tile {
                height = level.height;
                width = level.width;
                first_cell = level.first_cell;
                first_tile = level.first_tile;
            }
        }
        let tiles_across = width.div_ceil(TILE);
        let index = within - first_tile;
        Tile {
            first_cell: first_cell + image * height * width,
            height,
            width,
            row: index / tiles_across * TILE,
            column: index % tiles_across * TILE,
        }
    }
}

/// Marks the RoIs that reach each tile: `marks [tiles of all images, groups, GROUP_WORDS]`. One
/// unit for each tile and group.
#[cube(launch_unchecked)]
pub(super) fn mark_tiles(
    records: &[u32],
    marks: &mut [u32],
    levels: Sequence<Level>,
    maps: &Maps,
    units: u32,
) {
    if ABSOLUTE_POS >= units as usize {
        terminate!();
    }
    let unit = ABSOLUTE_POS as u32;
    let tile = Tile::locate(unit / maps.groups, &levels, maps);
    let group = unit % maps.groups;
    let at = ABSOLUTE_POS * GROUP_WORDS;
    let mut nonzero_words = 0u32;
    for word in 0..WORDS {
        let first = group * GROUP + word * 32;
        let end = (first + 32).min(maps.roi_count);
        let mut bits = 0u32;
        for roi in first..end {
            if reaches(records, roi, &tile, maps) {
                bits |= 1u32 << (roi - first);
            }
        }
        marks[at + 1 + word as usize] = bits;
        if bits != 0 {
            nonzero_words |= 1u32 << word;
        }
    }
    marks[at] = nonzero_words;
}

/// Whether a sample of an RoI can be inside a cell of a tile.
#[cube]
fn reaches(records: &[u32], roi: u32, tile: &Tile, maps: &Maps) -> bool {
    let record = roi as usize * RECORD;
    let first_cell = records[record];
    let mut is_near = false;
    // Levels without cells share their first cell with the next level, and have no tiles.
    if first_cell != ABSENT && first_cell == tile.first_cell {
        let rows = Axis::read(records, record + ROWS);
        let columns = Axis::read(records, record + COLUMNS);
        is_near = spans(&rows, maps.bins_y, tile.row) && spans(&columns, maps.bins_x, tile.column);
    }
    is_near
}

#[cube]
fn spans(axis: &Axis, bins: u32, first: u32) -> bool {
    let from = axis.from;
    let to = from + f32::cast_from(bins) * axis.bin;
    // A sample reaches less than one cell; half a cell is added for rounding.
    let low = f32::cast_from(first) - 1.5f32;
    let high = low + comptime![TILE as f32 + 2.0f32];
    from.max(to) >= low && from.min(to) <= high
}

/// `grad [r, bins_y, bins_x, c]`, `records`, `marks` -> `gradient [cells, c]`, summed in f32; if `is_added`, it is
/// added to the old values. One unit for each slice of the vectors (see [`super::kernel`]) of each cell of each tile.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
pub(super) fn gather_gradient<E: Float, N: Size>(
    grad: &[Vector<E, N>],
    records: &[u32],
    marks: &[u32],
    gradient: &mut [Vector<E, N>],
    levels: Sequence<Level>,
    slices: FastDivmod<usize>,
    slice_count: usize,
    maps: &Maps,
    units: usize,
    #[comptime] per_unit: usize,
    #[comptime] zero_padding: bool,
    #[comptime] is_added: bool,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let (cell, slice) = slices.div_mod(ABSOLUTE_POS);
    let cell = cell as u32;
    let tile_index = cell / comptime![TILE * TILE];
    let tile = Tile::locate(tile_index, &levels, maps);
    let row = tile.row + cell % comptime![TILE * TILE] / TILE;
    let column = tile.column + cell % TILE;
    if row >= tile.height || column >= tile.width {
        terminate!();
    }
    // Before the loop, so that it needs no registers for the tile: with them, f16 gradients spill on sm_70 to sm_80.
    let output_cell = (tile.first_cell + row * tile.width + column) as usize;
    let output = output_cell * slice_count * per_unit + slice;

    let mut sums = Array::<Vector<f32, N>>::new(per_unit);
    #[unroll]
    for k in 0..per_unit {
        sums[k] = Vector::new(0.0f32);
    }
    let mut marked = 0u32.runtime();
    for group in 0..maps.groups {
        let at = (tile_index * maps.groups + group) as usize * GROUP_WORDS;
        let mut words = marks[at];
        marked |= words;
        while words != 0 {
            let word = words.find_first_set() - 1;
            words &= words - 1;
            let mut bits = marks[at + 1 + word as usize];
            while bits != 0 {
                let bit = bits.find_first_set() - 1;
                bits &= bits - 1;
                let roi = group * GROUP + word * 32 + bit;
                gather_roi::<E, N>(
                    grad,
                    records,
                    roi,
                    row,
                    column,
                    maps,
                    slice,
                    slice_count,
                    per_unit,
                    zero_padding,
                    &mut sums,
                );
            }
        }
    }
    if comptime![is_added] {
        if marked == 0 {
            terminate!();
        }
        #[unroll]
        for k in 0..per_unit {
            sums[k] += Vector::cast_from(gradient[output + k * slice_count]);
        }
    }
    #[unroll]
    for k in 0..per_unit {
        gradient[output + k * slice_count] = Vector::cast_from(sums[k]);
    }
}

/// Adds the contribution of the bins of one RoI to a cell.
#[cube]
#[allow(clippy::too_many_arguments)]
fn gather_roi<E: Float, N: Size>(
    grad: &[Vector<E, N>],
    records: &[u32],
    roi: u32,
    row: u32,
    column: u32,
    maps: &Maps,
    slice: usize,
    slice_count: usize,
    #[comptime] per_unit: usize,
    #[comptime] zero_padding: bool,
    sums: &mut Array<Vector<f32, N>>,
) {
    let record = roi as usize * RECORD;
    let rows = Axis::read(records, record + ROWS);
    let columns = Axis::read(records, record + COLUMNS);
    let (first_y, end_y) = rows.bins_at(row, maps.bins_y);
    let (first_x, end_x) = columns.bins_at(column, maps.bins_x);
    for bin_y in first_y..end_y {
        let down = rows.weight(bin_y, row, zero_padding);
        if down != 0.0f32 {
            for bin_x in first_x..end_x {
                let weight = down * columns.weight(bin_x, column, zero_padding);
                if weight != 0.0f32 {
                    let bin = ((roi * maps.bins_y + bin_y) * maps.bins_x + bin_x) as usize;
                    let at = bin * slice_count * per_unit + slice;
                    #[unroll]
                    for k in 0..per_unit {
                        let value = Vector::<f32, N>::cast_from(grad[at + k * slice_count]);
                        sums[k] += value * Vector::new(weight);
                    }
                }
            }
        }
    }
}
