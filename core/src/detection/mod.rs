//! Detections: boxes, labels, scores and masks.

mod polygon;
mod ring;

pub use polygon::{Corner, Polygon};
pub use ring::{Point, merge};

use vernier_mask::Rle;

/// One detected object, in pixels of the original image.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// `[x1, y1, x2, y2]` in pixels; the right and bottom edges are exclusive.
    pub bbox: [f32; 4],
    /// Class index, `1..=K` (0 is the background). `Classes` maps it to a name and a category id.
    pub label: usize,
    /// Softmax score in `0..=1`.
    pub score: f32,
    /// Binary mask of the whole image (`h x w`), run-length encoded column by column as in COCO.
    pub mask: Rle,
}

/// A mask in its bounding window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskBitmap {
    /// Left column of the window in pixels.
    pub x: usize,
    /// Top row of the window in pixels.
    pub y: usize,
    /// Width of the window in pixels; 0 if the mask is empty.
    pub width: usize,
    /// Height of the window in pixels; 0 if the mask is empty.
    pub height: usize,
    /// 1 for pixels of the object and 0 elsewhere, `[height, width]`, row-major.
    pub cells: Vec<u8>,
}

impl Detection {
    /// The mask as a bitmap of its bounding window, so that a hundred masks of a large photo fit in memory.
    pub fn bitmap(&self) -> MaskBitmap {
        let [x, y, width, height] = self.mask.bbox().map(|v| v as usize);
        let rows = self.mask.h as usize;
        let mut cells = vec![0; width * height];
        let mut position = 0;
        for (index, &run) in self.mask.counts.iter().enumerate() {
            let run = run as usize;
            if index % 2 == 1 {
                for pixel in position..position + run {
                    let (column, row) = (pixel / rows - x, pixel % rows - y);
                    cells[row * width + column] = 1;
                }
            }
            position += run;
        }
        MaskBitmap {
            x,
            y,
            width,
            height,
            cells,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mask(mask: Rle) -> Detection {
        Detection {
            bbox: [0.0; 4],
            label: 1,
            score: 1.0,
            mask,
        }
    }

    #[test]
    fn the_bitmap_equals_the_window_of_the_whole_mask() {
        let (h, w) = (5, 4);
        for pattern in 0..1u32 << 12 {
            // Twelve cells in the middle columns, touching the top and bottom borders.
            let mut counts = vec![4];
            let mut value = false;
            for cell in 0..12 {
                let next = pattern >> cell & 1 == 1;
                if next != value {
                    counts.push(0);
                    value = next;
                }
                *counts.last_mut().unwrap() += 1;
            }
            if value {
                counts.push(0);
            }
            *counts.last_mut().unwrap() += 4;
            let detection = with_mask(Rle::from_counts(h, w, counts));
            let bitmap = detection.bitmap();
            let mut whole = vec![0; 20];
            for row in 0..bitmap.height {
                for column in 0..bitmap.width {
                    whole[(bitmap.y + row) * 4 + bitmap.x + column] =
                        bitmap.cells[row * bitmap.width + column];
                }
            }
            assert_eq!(whole, detection.mask.to_row_major_raster_bytes());
        }
        assert!(with_mask(Rle::empty(h, w)).bitmap().cells.is_empty());
    }
}
