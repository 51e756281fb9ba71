//! From the RPN's scores and deltas to the proposals of a picture.

use crate::boxes::{self, Anchors, Bbox, BoxCoder};
use crate::config::RpnConfig;
use mrcnn_kernels::{batched_nms, top_k};

/// A region that may hold an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// Pixels of the resized picture.
    pub bbox: Bbox,
    /// Probability of being an object.
    pub score: f32,
}

/// The best proposals of one picture, best first.
///
/// * `objectness` - logits, one an anchor; `deltas` - four an anchor.
/// * `size` - height and width of the resized picture in pixels, without padding.
/// * `pre_nms`, `post_nms` - proposals kept a level before, and in all after, suppression.
///
/// Follows torchvision's `filter_proposals`: top-k a level, decode, clip, drop tiny boxes, suppress
/// within each level. Anchors with a score or delta that is not finite are left out.
pub fn filter_proposals(
    objectness: &[f32],
    deltas: &[f32],
    anchors: &Anchors,
    size: (u32, u32),
    config: &RpnConfig,
    [pre_nms, post_nms]: [usize; 2],
) -> Vec<Proposal> {
    let coder = BoxCoder { weights: [1.0; 4] };
    let (height, width) = (size.0 as f32, size.1 as f32);
    let (mut boxes, mut scores, mut levels) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for (level, &count) in anchors.per_level.iter().enumerate() {
        for index in top_k(&objectness[first..first + count], pre_nms) {
            let anchor = first + index;
            let decoded = coder.decode(&deltas[4 * anchor..][..4], &anchors.boxes[anchor]);
            let bbox = boxes::clip(decoded, height, width);
            let score = 1.0 / (1.0 + (-objectness[anchor]).exp());
            let finite = score.is_finite() && decoded.iter().all(|v| v.is_finite());
            if finite && boxes::is_large_enough(&bbox, config.min_size) {
                boxes.push(bbox);
                scores.push(score);
                levels.push(level);
            }
        }
        first += count;
    }
    batched_nms(&boxes, &scores, &levels, config.nms_iou)
        .into_iter()
        .take(post_nms)
        .map(|kept| Proposal {
            bbox: boxes[kept],
            score: scores[kept],
        })
        .collect()
}
