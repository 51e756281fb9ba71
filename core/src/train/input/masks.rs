//! Ground-truth masks as training targets.

use crate::boxes::Bbox;
use crate::image::Placement;
use crate::image::transform::nearest_taps;
use mrcnn_kernels::{BitMasks, MaskWindow};
use vernier_mask::Rle;

/// The mask of an object in its bounding window of a resized image; its memory depends on the size of the object, not
/// of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceMask {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// `[height, width]`, 0 or 1.
    cells: Vec<u8>,
    /// `(height, width)` of the resized image.
    image: (usize, usize),
}

impl InstanceMask {
    /// The mask of an original image, resized to `image = (height, width)` by nearest neighbors
    /// as in torchvision, flipped horizontally first if `flip`.
    pub fn new(mask: &Rle, (height, width): (usize, usize), flip: bool) -> Self {
        let resized = (height as u32, width as u32);
        Self::placed(mask, &Placement::whole((mask.h, mask.w), resized, flip))
    }

    /// The part of the mask of an original image that `placement` shows.
    pub fn placed(mask: &Rle, placement: &Placement) -> Self {
        let [left, top, columns, rows] = mask.bbox().map(|v| v as usize);
        let mut source = Vec::new();
        mask.decode_bbox_row_major_into(&mut source, mask.bbox());
        let (height, width) = (mask.h as usize, mask.w as usize);
        let flip = placement.flip;
        let from_x = |x: usize| if flip { width - 1 - x } else { x };
        let window = |taps: Vec<usize>, first: usize, count: usize| -> (usize, Vec<usize>) {
            let inside = |source: &usize| (first..first + count).contains(source);
            let start = taps.iter().position(&inside).unwrap_or(0);
            (
                start,
                taps.into_iter()
                    .filter(inside)
                    .map(|source| source - first)
                    .collect(),
            )
        };
        let x_taps = &nearest_taps(placement.resized.1 as usize, width)[placement.columns()];
        let y_taps = &nearest_taps(placement.resized.0 as usize, height)[placement.rows()];
        let (x, x_taps) = window(x_taps.iter().map(|&x| from_x(x)).collect(), left, columns);
        let (y, y_taps) = window(y_taps.to_vec(), top, rows);
        let cells = y_taps
            .iter()
            .flat_map(|row| x_taps.iter().map(move |column| row * columns + column))
            .map(|cell| u8::from(source[cell] != 0))
            .collect();
        Self {
            x,
            y,
            width: x_taps.len(),
            height: y_taps.len(),
            cells,
            image: (placement.size.0 as usize, placement.size.1 as usize),
        }
    }

    /// Rows and columns of the pixels inside, in row-major order.
    pub fn pixels(&self) -> impl Iterator<Item = (usize, usize)> {
        let solid = self
            .cells
            .iter()
            .enumerate()
            .filter(|(_, cell)| **cell != 0);
        solid.map(|(index, _)| (self.y + index / self.width, self.x + index % self.width))
    }

    /// Number of pixels inside.
    pub fn area(&self) -> usize {
        self.cells.iter().map(|&cell| cell as usize).sum()
    }

    /// The tight bounding box of the pixels inside; `None` if there are none.
    pub fn bounds(&self) -> Option<Bbox> {
        let mut pixels = self.pixels();
        let (top, first) = pixels.next()?;
        let (mut left, mut right, mut bottom) = (first, first, top);
        for (row, column) in pixels {
            (left, right, bottom) = (left.min(column), right.max(column), row);
        }
        Some([
            left as f32,
            top as f32,
            right as f32 + 1.0,
            bottom as f32 + 1.0,
        ])
    }

    /// The same pixels in an image of `(height, width)`; pixels outside it are dropped.
    pub fn framed(&self, (height, width): (usize, usize)) -> Self {
        let rows = self.height.min(height.saturating_sub(self.y));
        let columns = self.width.min(width.saturating_sub(self.x));
        let lines = self.cells.chunks(self.width.max(1)).take(rows);
        Self {
            x: self.x,
            y: self.y,
            width: columns,
            height: rows,
            cells: lines.flat_map(|line| line[..columns].to_vec()).collect(),
            image: (height, width),
        }
    }

    /// Removes the pixels of `other`, a mask of the same image.
    pub fn subtract(&mut self, other: &Self) {
        let rows = self.y.max(other.y)..(self.y + self.height).min(other.y + other.height);
        let columns = self.x.max(other.x)..(self.x + self.width).min(other.x + other.width);
        for row in rows {
            for column in columns.clone() {
                let above = other.cells[(row - other.y) * other.width + column - other.x];
                let cell = &mut self.cells[(row - self.y) * self.width + column - self.x];
                *cell &= 1 - above;
            }
        }
    }

    /// The mask over the whole resized image, as run lengths.
    pub fn to_rle(&self) -> Rle {
        let (height, width) = self.image;
        let mut counts = Vec::new();
        // Runs go down the columns and start with background.
        let (mut value, mut length) = (0, 0u32);
        for column in 0..width {
            for row in 0..height {
                let cell = self.at(row, column);
                if cell != value {
                    counts.push(std::mem::take(&mut length));
                    value = cell;
                }
                length += 1;
            }
        }
        counts.push(length);
        Rle::from_counts(height as u32, width as u32, counts)
    }

    fn at(&self, row: usize, column: usize) -> u8 {
        let (row, column) = (row.wrapping_sub(self.y), column.wrapping_sub(self.x));
        match row < self.height && column < self.width {
            true => self.cells[row * self.width + column],
            false => 0,
        }
    }
}

/// The masks of a batch with `slots` per image, in the layout of the tensor operator.
pub fn bit_masks<'a>(images: impl Iterator<Item = &'a [InstanceMask]>, slots: usize) -> BitMasks {
    let mut table = BitMasks::default();
    for (image, masks) in images.enumerate() {
        for mask in &masks[..masks.len().min(slots)] {
            let window = MaskWindow {
                origin: (mask.x, mask.y),
                size: (mask.width, mask.height),
                image: (mask.image.1, mask.image.0),
            };
            table.push(window, &mask.cells);
        }
        table.pad((image + 1) * slots);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(bbox: [f64; 4]) -> InstanceMask {
        let rle = Rle::from_bbox(bbox, 20, 30).expect("a box");
        InstanceMask::new(&rle, (20, 30), false)
    }

    #[test]
    fn masks_are_cut_hidden_and_measured() {
        let mut low = mask([4.0, 5.0, 10.0, 6.0]);
        assert_eq!(
            (low.area(), low.bounds()),
            (60, Some([4.0, 5.0, 14.0, 11.0]))
        );
        assert_eq!(
            low.to_rle(),
            Rle::from_bbox([4.0, 5.0, 10.0, 6.0], 20, 30).unwrap()
        );
        let cut = low.framed((8, 9));
        assert_eq!((cut.area(), cut.bounds()), (15, Some([4.0, 5.0, 9.0, 8.0])));
        assert_eq!(low.framed((5, 9)).bounds(), None);
        assert_eq!(low.framed((40, 60)).bounds(), low.bounds());
        // From above and from the right; then what is left, and more.
        low.subtract(&mask([0.0, 0.0, 30.0, 7.0]));
        low.subtract(&mask([12.0, 0.0, 5.0, 20.0]));
        assert_eq!(
            (low.area(), low.bounds()),
            (32, Some([4.0, 7.0, 12.0, 11.0]))
        );
        low.subtract(&mask([20.0, 0.0, 5.0, 5.0]));
        assert_eq!(low.area(), 32);
        low.subtract(&mask([0.0, 0.0, 30.0, 20.0]));
        assert_eq!((low.area(), low.bounds()), (0, None));
    }
}
