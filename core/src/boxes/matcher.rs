//! Matching anchors or proposals to ground-truth boxes by IoU (Faster R-CNN, section 3.1.2).

use super::{Bbox, iou};
use crate::config::{RoiConfig, RpnConfig};
use mrcnn_kernels::{BACKGROUND, IGNORED, MatchThresholds, match_by};

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
    /// Matching of anchors.
    pub fn of_anchors(config: &RpnConfig) -> Self {
        Self {
            fg_iou: config.fg_iou,
            bg_iou: config.bg_iou,
            allow_low_quality: true,
        }
    }

    /// Matching of proposals.
    pub fn of_rois(config: &RoiConfig) -> Self {
        Self {
            fg_iou: config.fg_iou,
            bg_iou: config.bg_iou,
            allow_low_quality: false,
        }
    }

    /// Matches every one of `boxes` to `truth`, in O(boxes) memory.
    pub fn match_boxes(&self, truth: &[Bbox], boxes: &[Bbox]) -> Vec<Match> {
        self.match_by(truth.len(), boxes.len(), |t, b| iou(&truth[t], &boxes[b]))
    }

    /// Matches `columns` candidates to `rows` ground truths by `quality(row, column)`.
    pub fn match_by(
        &self,
        rows: usize,
        columns: usize,
        quality: impl Fn(usize, usize) -> f32,
    ) -> Vec<Match> {
        let matches = match_by(rows, columns, &self.thresholds(), quality);
        let found = |index| match index {
            BACKGROUND => Match::Background,
            IGNORED => Match::Ignored,
            index => Match::Object(index as usize),
        };
        matches.into_iter().map(found).collect()
    }

    /// The thresholds as the operator on tensors, [`mrcnn_kernels::match_boxes`], takes them.
    pub fn thresholds(&self) -> MatchThresholds {
        MatchThresholds {
            fg_iou: self.fg_iou,
            bg_iou: self.bg_iou,
            allow_low_quality: self.allow_low_quality,
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
