//! Kernel of mask pasting, with one unit per word of 32 rows of a column.

use super::window::{BITS, ENTRY};
use cubecl::prelude::*;

/// Units per cube.
pub const UNITS: u32 = 256;

/// Two neighboring cells of an axis of the padded mask and the weight of the second.
#[derive(CubeType, Clone, Copy)]
struct Tap {
    low: u32,
    high: u32,
    fraction: f32,
}

/// `masks [r, side, side]`, `table [entries, 8]` -> bits of the pixels above `threshold`.
///
/// Cube `(x, y)` computes 256 words of entry `y`. A row of the table has the mask, its first word, columns and rows,
/// skipped pixels along x and y, and the bits of the cells per pixel along x and y.
#[cube(launch_unchecked)]
pub fn paste_words(masks: &[f32], table: &[u32], words: &mut [u32], threshold: f32, side: u32) {
    let entry = (CUBE_POS_Y * comptime!(ENTRY as u32)) as usize;
    let rows = table[entry + 3];
    let column_words = rows.div_ceil(comptime!(BITS as u32));
    let word = CUBE_POS_X * UNITS + UNIT_POS;
    if word >= table[entry + 2] * column_words {
        terminate!();
    }
    let mask = table[entry] * side * side;
    let column = word / column_words + table[entry + 4];
    let x = tap(column, f32::reinterpret(table[entry + 6]), side);
    let first_row = word % column_words * comptime!(BITS as u32);
    let scale = f32::reinterpret(table[entry + 7]);
    let mut bits = 0u32;
    for bit in 0..comptime!(BITS as u32) {
        let row = first_row + bit;
        if row < rows {
            let y = tap(row + table[entry + 5], scale, side);
            let upper = cell(masks, mask, side, y.low, x.low) * (1.0f32 - x.fraction)
                + cell(masks, mask, side, y.low, x.high) * x.fraction;
            let lower = cell(masks, mask, side, y.high, x.low) * (1.0f32 - x.fraction)
                + cell(masks, mask, side, y.high, x.high) * x.fraction;
            if upper * (1.0f32 - y.fraction) + lower * y.fraction > threshold {
                bits |= 1u32 << bit;
            }
        }
    }
    words[(table[entry + 1] + word) as usize] = bits;
}

/// The sample of pixel `target` of a box.
#[cube]
fn tap(target: u32, scale: f32, side: u32) -> Tap {
    let position = max((f32::cast_from(target) + 0.5f32) * scale - 0.5f32, 0.0f32);
    let low = min(position as u32, side + 1);
    Tap {
        low,
        high: min(low + 1, side + 1),
        fraction: position - f32::cast_from(low),
    }
}

/// A cell of the padded mask.
#[cube]
fn cell(masks: &[f32], mask: u32, side: u32, row: u32, column: u32) -> f32 {
    // Coordinates before the first cell wrap to large values.
    let y = row - 1;
    let x = column - 1;
    let mut value = 0.0f32;
    if y < side && x < side {
        value = masks[(mask + y * side + x) as usize];
    }
    value
}
