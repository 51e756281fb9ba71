//! Anchors: reference boxes for every cell of every pyramid level.

use super::Bbox;

/// Anchors for one padded image size, ordered by level (P2 first), row, column and ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchors {
    /// All anchors.
    pub boxes: Vec<Bbox>,
    /// Number of anchors per level.
    pub per_level: Vec<usize>,
}

/// Anchors of `size` pixels around the origin, one per ratio (height over width), with equal areas. With `rounded`,
/// sides are rounded to whole pixels as in torchvision; Detectron2 does not round.
pub fn cell_anchors(size: f32, ratios: &[f32], rounded: bool) -> Vec<Bbox> {
    let side = |v: f32| if rounded { v.round_ties_even() } else { v };
    ratios
        .iter()
        .map(|ratio| {
            let height_ratio = ratio.sqrt();
            let width = (1.0 / height_ratio) * size;
            let height = height_ratio * size;
            [-width, -height, width, height].map(|v| side(v / 2.0))
        })
        .collect()
}

/// Placement of anchors in the image: rounding, and position within a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnchorLayout {
    /// Whether sides and distances are whole pixels as in torchvision. In Detectron2 they are not.
    pub rounded: bool,
    /// Distance of an anchor's center from the upper left corner of its cell, as a fraction of the stride: 0 in
    /// torchvision and Detectron2, 0.5 in the reference system.
    pub offset: f32,
}

impl Default for AnchorLayout {
    fn default() -> Self {
        Self {
            rounded: true,
            offset: 0.0,
        }
    }
}

impl AnchorLayout {
    /// Distance of neighboring anchors in pixels along a side of `length` padded pixels with `cells` cells, on `level`
    /// 0 (P2) or higher. Rounded, it is `length / cells` in whole pixels as in torchvision: 61 on P6 of 800 pixels,
    /// whose 25 cells on P5 become 13. Otherwise it is the level's stride, 64 on P6.
    pub fn spacing(&self, length: usize, cells: usize, level: usize) -> f32 {
        match self.rounded {
            true => (length / cells.max(1)) as f32,
            false => ((level + 2) as f32).exp2(),
        }
    }
}

impl Anchors {
    /// Anchors for an image of `padded = (height, width)` pixels with feature maps of `grids` `(rows, columns)`, P2
    /// first. The other arguments are those of [`cell_anchors`], with one size per level.
    pub fn new(
        padded: (usize, usize),
        grids: &[(usize, usize)],
        sizes: &[f32],
        ratios: &[f32],
        layout: AnchorLayout,
    ) -> Self {
        let mut boxes = Vec::new();
        let mut per_level = Vec::with_capacity(grids.len());
        for (level, (&(rows, columns), &size)) in grids.iter().zip(sizes).enumerate() {
            let stride_y = layout.spacing(padded.0, rows, level);
            let stride_x = layout.spacing(padded.1, columns, level);
            let cells = cell_anchors(size, ratios, layout.rounded);
            for row in 0..rows {
                for column in 0..columns {
                    let at = |index: usize, stride: f32| (index as f32 + layout.offset) * stride;
                    let (x, y) = (at(column, stride_x), at(row, stride_y));
                    boxes.extend(
                        cells
                            .iter()
                            .map(|c| [x + c[0], y + c[1], x + c[2], y + c[3]]),
                    );
                }
            }
            per_level.push(rows * columns * ratios.len());
        }
        Self { boxes, per_level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If a padded side is not a multiple of 64, only torchvision's anchors are closer than the stride.
    #[test]
    fn detectron2s_anchors_have_the_stride_of_their_level() {
        let last = |rounded, offset| {
            let layout = AnchorLayout { rounded, offset };
            let grids = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)];
            let sizes = [32.0, 64.0, 128.0, 256.0, 512.0];
            let anchors = Anchors::new((800, 1344), &grids, &sizes, &[1.0], layout);
            anchors.boxes[anchors.boxes.len() - 1]
        };
        let (x, y) = (20.0 * 64.0, 12.0 * 64.0);
        assert_eq!(
            last(false, 0.0),
            [x - 256.0, y - 256.0, x + 256.0, y + 256.0]
        );
        // The reference system's centers are those of the cells.
        let [x1, y1, ..] = last(false, 0.5);
        assert_eq!([x1, y1], [x + 32.0 - 256.0, y + 32.0 - 256.0]);
        let y = 12.0 * 61.0;
        assert_eq!(
            last(true, 0.0),
            [x - 256.0, y - 256.0, x + 256.0, y + 256.0]
        );
    }
}
