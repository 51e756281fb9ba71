//! The parts of an image that masks cover, on a coarse grid.

use super::canvas::Rect;
use crate::detection::MaskBitmap;

/// Cells of the longer side.
const CELLS: u32 = 400;

pub(super) struct Occupancy {
    /// Side of a cell in pixels.
    cell: i64,
    columns: i64,
    rows: i64,
    /// Whether a mask has a pixel in the cell.
    cells: Vec<bool>,
}

impl Occupancy {
    pub fn new(width: u32, height: u32) -> Self {
        let cell = width.max(height).div_ceil(CELLS).max(1);
        let [columns, rows] = [width, height].map(|side| i64::from(side.div_ceil(cell)));
        Self {
            cell: cell.into(),
            columns,
            rows,
            cells: vec![false; (columns * rows) as usize],
        }
    }

    /// Marks the pixels of a mask, each of them `zoom` pixels wide.
    pub fn add(&mut self, bitmap: &MaskBitmap, zoom: u32) {
        let zoom = i64::from(zoom);
        // A cell has several pixels of the mask, or a pixel covers several cells.
        let step = (self.cell / zoom).max(1) as usize;
        let size = (zoom / self.cell).max(1);
        for y in (0..bitmap.height).step_by(step) {
            for x in (0..bitmap.width).step_by(step) {
                if bitmap.cells[y * bitmap.width + x] == 0 {
                    continue;
                }
                let column = (bitmap.x + x) as i64 * zoom / self.cell;
                let row = (bitmap.y + y) as i64 * zoom / self.cell;
                for row in row..(row + size).min(self.rows) {
                    for column in column..(column + size).min(self.columns) {
                        self.cells[(row * self.columns + column) as usize] = true;
                    }
                }
            }
        }
    }

    /// The part of a rectangle that masks cover, `0..=1`.
    pub fn part(&self, rect: Rect) -> f32 {
        let [left, top] = [rect.x, rect.y].map(|start| (start / self.cell).max(0));
        let right = ((rect.x + rect.width - 1) / self.cell + 1).min(self.columns);
        let bottom = ((rect.y + rect.height - 1) / self.cell + 1).min(self.rows);
        let (mut covered, mut all) = (0, 0);
        for row in top..bottom {
            for column in left..right {
                covered += i32::from(self.cells[(row * self.columns + column) as usize]);
                all += 1;
            }
        }
        covered as f32 / all.max(1) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_masks_are_found() {
        let bitmap = MaskBitmap {
            x: 10,
            y: 20,
            width: 30,
            height: 40,
            cells: vec![1; 1200],
        };
        for (side, zoom) in [(100, 1), (100, 3), (2000, 1), (900, 2)] {
            let mut occupancy = Occupancy::new(side, side);
            occupancy.add(&bitmap, zoom);
            let zoom = i64::from(zoom);
            let part = |x: i64, y: i64, width: i64, height: i64| {
                occupancy.part(Rect {
                    x: x * zoom,
                    y: y * zoom,
                    width: width * zoom,
                    height: height * zoom,
                })
            };
            assert_eq!(part(15, 25, 15, 8), 1.0, "{side} {zoom}");
            assert_eq!(part(60, 70, 20, 20), 0.0, "{side} {zoom}");
            assert!((part(0, 20, 20, 40) - 0.5).abs() < 0.15, "{side} {zoom}");
        }
    }
}
