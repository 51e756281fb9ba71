//! Matching on host memory.

use crate::nms::overlap;

/// IoU of boxes `[x1, y1, x2, y2]`; NaN if both have no area, as in torchvision's `box_iou`.
#[inline]
pub fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    overlap(a, area(a), b, area(b))
}
