//! Matching on host memory.

use super::{BACKGROUND, IGNORED, MatchThresholds};
use crate::nms::overlap;

/// Matches `columns` candidates to `rows` ground truths by `quality(row, column)`. Returns a row, [`BACKGROUND`] or
/// [`IGNORED`] per candidate.
///
/// Quality is evaluated twice and not stored as a matrix, because 300,000 anchors times hundreds of objects would not
/// fit in memory. NaN never matches.
pub fn match_by(
    rows: usize,
    columns: usize,
    thresholds: &MatchThresholds,
    quality: impl Fn(usize, usize) -> f32,
) -> Vec<i32> {
    let mut row_best = vec![f32::NEG_INFINITY; rows];
    let mut best: Vec<(f32, usize)> = Vec::with_capacity(columns);
    for column in 0..columns {
        let mut winner = (f32::NEG_INFINITY, 0);
        for (row, row_best) in row_best.iter_mut().enumerate() {
            let value = quality(row, column);
            *row_best = row_best.max(value);
            if value > winner.0 {
                winner = (value, row);
            }
        }
        best.push(winner);
    }
    let claimed = |column: usize| (0..rows).any(|row| quality(row, column) == row_best[row]);
    let decide = |(column, &(value, row)): (usize, &(f32, usize))| {
        let is_claimed =
            || thresholds.allow_low_quality && value > f32::NEG_INFINITY && claimed(column);
        if value >= thresholds.fg_iou || is_claimed() {
            row as i32
        } else if value < thresholds.bg_iou {
            BACKGROUND
        } else {
            IGNORED
        }
    };
    best.iter().enumerate().map(decide).collect()
}

/// IoU of boxes `[x1, y1, x2, y2]`; NaN if both have no area, as in torchvision's `box_iou`.
pub fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    overlap(a, area(a), b, area(b))
}

#[cfg(feature = "flex")]
mod flex {
    use super::{iou, match_by};
    use crate::flex::{floats, integers};
    use crate::matching::{MatchOps, MatchThresholds};
    use burn::backend::Flex;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    impl MatchOps for Flex {
        fn match_boxes(
            boxes: FloatTensor<Self>,
            gt: FloatTensor<Self>,
            counts: IntTensor<Self>,
            thresholds: MatchThresholds,
        ) -> IntTensor<Self> {
            let [boxes, gt, counts] = [boxes, gt, counts].map(|tensor| tensor.to_contiguous());
            let shape = gt.layout().shape();
            let [n, slots] = [shape[0], shape[1]];
            let shape = boxes.layout().shape();
            let [images, total] = [shape[0], shape[1]];
            let (boxes, gt) = (floats(&boxes), floats(&gt));
            let (boxes, gt) = (boxes.as_chunks().0, gt.as_chunks().0);
            let mut matches = Vec::with_capacity(n * total);
            for (image, &count) in integers(&counts).iter().enumerate() {
                let first = if images == 1 { 0 } else { image };
                let boxes = &boxes[first * total..][..total];
                let count = usize::try_from(count).unwrap_or(0).min(slots);
                let gt = &gt[image * slots..][..count];
                matches.extend(match_by(count, total, &thresholds, |t, b| {
                    iou(&gt[t], &boxes[b])
                }));
            }
            FlexTensor::from_data(TensorData::new(matches, [n, total]))
        }
    }
}
