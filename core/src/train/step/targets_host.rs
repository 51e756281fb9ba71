//! What the RPN and the RoI heads should have said.

use crate::boxes::{Bbox, BoxCoder, Match, Matcher, sample_balanced};
use crate::config::{RoiConfig, RpnConfig};
use crate::random::Stream;
use crate::train::input::batch::Truth;
use crate::train::input::masks::project_mask;

/// RPN targets of one picture, one entry an anchor.
#[derive(Clone, Debug, PartialEq)]
pub struct RpnTargets {
    /// 1 for objects, 0 otherwise.
    pub labels: Vec<f32>,
    /// 1 where the anchor was sampled.
    pub sampled: Vec<f32>,
    /// Box deltas of sampled objects, 0 elsewhere; four an anchor.
    pub deltas: Vec<f32>,
    /// 1 where the anchor is a sampled object.
    pub objects: Vec<f32>,
}

/// Matches and samples the anchors of one picture.
pub fn rpn_targets(
    anchors: &[Bbox],
    truth: &[Bbox],
    config: &RpnConfig,
    stream: Stream,
) -> RpnTargets {
    let matcher = Matcher {
        fg_iou: config.fg_iou,
        bg_iou: config.bg_iou,
        allow_low_quality: true,
    };
    let matches = matcher.match_boxes(truth, anchors);
    let sampled = sample_balanced(
        &matches,
        config.batch_per_image,
        config.positive_fraction,
        stream,
    );
    let coder = BoxCoder { weights: [1.0; 4] };
    let zeros = || vec![0.0; anchors.len()];
    let mut targets = RpnTargets {
        labels: zeros(),
        sampled: zeros(),
        deltas: vec![0.0; anchors.len() * 4],
        objects: zeros(),
    };
    for &anchor in &sampled.background {
        targets.sampled[anchor] = 1.0;
    }
    for &anchor in &sampled.objects {
        targets.sampled[anchor] = 1.0;
        targets.labels[anchor] = 1.0;
        targets.objects[anchor] = 1.0;
        if let Match::Object(index) = matches[anchor] {
            let deltas = coder.encode(&truth[index], &anchors[anchor]);
            targets.deltas[anchor * 4..][..4].copy_from_slice(&deltas);
        }
    }
    targets
}

/// Sampled regions of one picture and their targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoiTargets {
    /// Pixels of the resized picture.
    pub rois: Vec<Bbox>,
    /// Class of each, 0 for background.
    pub labels: Vec<usize>,
    /// Index of the matched object; meaningless for background.
    pub matched: Vec<usize>,
    /// Box deltas; 0 for background.
    pub deltas: Vec<[f32; 4]>,
}

/// Matches and samples the proposals of one picture, the objects' own boxes among them.
///
/// The objects stand behind `slots` proposals, whether there are as many or not: what is sampled is
/// decided by the index of a candidate, and is so the same where proposals stand in fixed slots.
pub fn roi_targets(
    proposals: &[Bbox],
    slots: usize,
    truth: &Truth,
    config: &RoiConfig,
    stream: Stream,
) -> RoiTargets {
    let padding = slots.saturating_sub(proposals.len());
    let empty = vec![[0.0; 4]; padding];
    let candidates = [proposals, &empty, &truth.boxes].concat();
    let matcher = Matcher {
        fg_iou: config.fg_iou,
        bg_iou: config.bg_iou,
        allow_low_quality: false,
    };
    let mut matches = matcher.match_boxes(&truth.boxes, &candidates);
    matches[proposals.len()..][..padding].fill(Match::Ignored);
    let sampled = sample_balanced(
        &matches,
        config.batch_per_image,
        config.positive_fraction,
        stream,
    );
    let coder = BoxCoder {
        weights: config.box_weights,
    };
    let mut targets = RoiTargets::default();
    for index in sampled.all() {
        let roi = candidates[index];
        let (label, matched, deltas) = match matches[index] {
            Match::Object(object) => (
                truth.labels[object],
                object,
                coder.encode(&truth.boxes[object], &roi),
            ),
            _ => (0, 0, [0.0; 4]),
        };
        targets.rois.push(roi);
        targets.labels.push(label);
        targets.matched.push(matched);
        targets.deltas.push(deltas);
    }
    targets
}

impl RoiTargets {
    /// The sampled objects: their regions, classes and `side x side` mask targets.
    pub fn mask_targets(&self, truth: &Truth, side: usize) -> Vec<(Bbox, usize, Vec<f32>)> {
        let objects = (0..self.rois.len()).filter(|&index| self.labels[index] > 0);
        objects
            .map(|index| {
                let roi = self.rois[index];
                let mask = project_mask(&truth.masks[self.matched[index]], &roi, side);
                (roi, self.labels[index], mask)
            })
            .collect()
    }
}
