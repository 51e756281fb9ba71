//! Matching anchors or proposals to ground-truth boxes by IoU (Faster R-CNN, section 3.1.2).

use super::{Bbox, iou};

/// What a box was matched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// An object: the index of its ground truth.
    Object(usize),
    /// Background.
    Background,
    /// Between the thresholds: takes no part in training.
    Ignored,
}

/// Thresholds of the matching.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matcher {
    /// IoU from which a box is an object.
    pub fg_iou: f32,
    /// IoU below which a box is background.
    pub bg_iou: f32,
    /// Whether each ground truth also claims the boxes that overlap it most, however little.
    pub allow_low_quality: bool,
}

impl Matcher {
    /// Matches every one of `boxes` to `truth`, in O(boxes) memory.
    pub fn match_boxes(&self, truth: &[Bbox], boxes: &[Bbox]) -> Vec<Match> {
        self.match_by(truth.len(), boxes.len(), |t, b| iou(&truth[t], &boxes[b]))
    }

    /// Matches `columns` candidates to `rows` ground truths by `quality(row, column)`.
    ///
    /// Quality is evaluated twice rather than kept as a matrix: 300,000 anchors against hundreds of
    /// objects would not fit in memory.
    pub fn match_by(
        &self,
        rows: usize,
        columns: usize,
        quality: impl Fn(usize, usize) -> f32,
    ) -> Vec<Match> {
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
        let claimed = |column: usize| {
            self.allow_low_quality && (0..rows).any(|row| quality(row, column) == row_best[row])
        };
        best.iter()
            .enumerate()
            .map(|(column, &(value, row))| self.decide(value, row, || claimed(column)))
            .collect()
    }

    fn decide(&self, value: f32, row: usize, claimed: impl Fn() -> bool) -> Match {
        if value >= self.fg_iou || (value > f32::NEG_INFINITY && claimed()) {
            Match::Object(row)
        } else if value < self.bg_iou {
            Match::Background
        } else {
            Match::Ignored
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Match, Matcher};

    #[test]
    fn without_ground_truth_everything_is_background() {
        let matcher = Matcher {
            fg_iou: 0.7,
            bg_iou: 0.3,
            allow_low_quality: true,
        };
        let boxes = [[0.0, 0.0, 5.0, 5.0]; 3];
        assert_eq!(matcher.match_boxes(&[], &boxes), [Match::Background; 3]);
        assert!(matcher.match_boxes(&boxes, &[]).is_empty());
    }
}
