//! Matching anchors or proposals to ground-truth boxes by IoU (Faster R-CNN, section 3.1.2).

use super::{Bbox, iou};
use crate::config::{RoiConfig, RpnConfig};
use mrcnn_kernels::{BACKGROUND, IGNORED, MatchThresholds, match_by};

/// Result of matching a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// An object, with the index of its ground truth.
    Object(usize),
    /// Background.
    Background,
    /// IoU between the thresholds: not used in training.
    Ignored,
}

/// Matching of boxes to ground truth by IoU thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matcher {
    /// Minimum IoU of an object.
    pub fg_iou: f32,
    /// Boxes with a smaller IoU are background.
    pub bg_iou: f32,
    /// Whether each ground truth is also matched to the boxes with its highest IoU, even below the thresholds.
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

    /// Matches `boxes` to the ground truth `gt`, in O(boxes) memory.
    pub fn match_boxes(&self, gt: &[Bbox], boxes: &[Bbox]) -> Vec<Match> {
        self.match_by(gt.len(), boxes.len(), |g, b| iou(&gt[g], &boxes[b]))
    }

    /// Matches `columns` candidates to `rows` ground truths by `quality(row, column)`.
    pub fn match_by(
        &self,
        rows: usize,
        columns: usize,
        quality: impl Fn(usize, usize) -> f32,
    ) -> Vec<Match> {
        let matches = match_by(rows, columns, &self.thresholds(), quality);
        let to_match = |index| match index {
            BACKGROUND => Match::Background,
            IGNORED => Match::Ignored,
            index => Match::Object(index as usize),
        };
        matches.into_iter().map(to_match).collect()
    }

    /// The thresholds for the tensor operator [`mrcnn_kernels::match_boxes`].
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
