//! Ground-truth masks as training targets.

use crate::boxes::Bbox;
use crate::image::transform::nearest_taps;
use mrcnn_kernels::{BitMasks, MaskWindow, mask_target};
use vernier_mask::Rle;

/// The window of a resized picture that an object's mask covers; memory goes with the object, not
/// with the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthMask {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// `[height, width]`, 0 or 1.
    cells: Vec<u8>,
    /// `(height, width)` of the resized picture.
    picture: (usize, usize),
}

impl TruthMask {
    /// The mask of an original picture, resized to `picture = (height, width)` by nearest neighbours
    /// as torchvision does, mirrored first if `flip`.
    pub fn new(mask: &Rle, picture: (usize, usize), flip: bool) -> Self {
        let [left, top, columns, rows] = mask.bbox().map(|v| v as usize);
        let mut source = Vec::new();
        mask.decode_bbox_row_major_into(&mut source, mask.bbox());
        let original = (mask.h as usize, mask.w as usize);
        let from_x = |x: usize| if flip { original.1 - 1 - x } else { x };
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
        let x_taps = nearest_taps(picture.1, original.1)
            .into_iter()
            .map(from_x)
            .collect();
        let (x, x_taps) = window(x_taps, left, columns);
        let (y, y_taps) = window(nearest_taps(picture.0, original.0), top, rows);
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
            picture,
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        let (row, column) = (row.wrapping_sub(self.y), column.wrapping_sub(self.x));
        let inside = row < self.height && column < self.width;
        if inside {
            self.cells[row * self.width + column] as f32
        } else {
            0.0
        }
    }
}

/// The mask within `roi` (pixels of the resized picture) as a `side x side` target in `0..=1`:
/// RoIAlign with adaptive sampling, torchvision's `project_masks_on_boxes`.
pub fn project_mask(mask: &TruthMask, roi: &Bbox, side: usize) -> Vec<f32> {
    let (height, width) = mask.picture;
    mask_target(roi, side, (width, height), |row, column| {
        mask.at(row, column)
    })
}

/// The masks of a batch with `slots` a picture, as the operator on tensors takes them.
pub fn bit_masks<'a>(pictures: impl Iterator<Item = &'a [TruthMask]>, slots: usize) -> BitMasks {
    let mut table = BitMasks::default();
    for (picture, masks) in pictures.enumerate() {
        for mask in &masks[..masks.len().min(slots)] {
            let window = MaskWindow {
                origin: (mask.x, mask.y),
                size: (mask.width, mask.height),
                picture: (mask.picture.1, mask.picture.0),
            };
            table.push(window, &mask.cells);
        }
        table.pad((picture + 1) * slots);
    }
    table
}
