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

/// Anchors of `size` pixels around the origin, one per ratio (height over width), with equal areas. With `rounded`, sides
/// are rounded to whole pixels as in torchvision; Detectron2 does not round.
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

impl Anchors {
    /// Anchors for an image of `padded = (height, width)` pixels with feature maps of `grids` `(rows, columns)`. The other
    /// arguments are those of [`cell_anchors`], with one size per level.
    pub fn new(
        padded: (usize, usize),
        grids: &[(usize, usize)],
        sizes: &[f32],
        ratios: &[f32],
        rounded: bool,
    ) -> Self {
        let mut boxes = Vec::new();
        let mut per_level = Vec::with_capacity(grids.len());
        for (&(rows, columns), &size) in grids.iter().zip(sizes) {
            let stride_y = (padded.0 / rows.max(1)) as f32;
            let stride_x = (padded.1 / columns.max(1)) as f32;
            let cells = cell_anchors(size, ratios, rounded);
            for row in 0..rows {
                for column in 0..columns {
                    let (x, y) = (column as f32 * stride_x, row as f32 * stride_y);
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
