//! What a prediction is: boxes, labels, scores and masks of one picture.

use vernier_mask::Rle;

/// One detected object, in the pixels of the original picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// `[x1, y1, x2, y2]` in pixels; the right and bottom edges are exclusive.
    pub bbox: [f32; 4],
    /// Class index, `1..=K` (0 is the background). `Classes` maps it to a name and a category id.
    pub label: usize,
    /// Softmax score in `0..=1`.
    pub score: f32,
    /// Binary mask of the whole picture (`h x w`), run-length encoded column by column as COCO does.
    pub mask: Rle,
}
