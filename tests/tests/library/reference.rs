//! The definition of selection on slices, one image at a time: what the operators on tensors are compared with.

use mrcnn_core::boxes::{Anchors, BOX_CLIP, Bbox};
use mrcnn_core::config::{RoiConfig, RpnConfig};
use mrcnn_core::model::ScoredBox;
use mrcnn_kernels::{BoxDecoding, batched_nms, top_k};

/// torchvision's `filter_proposals`: top-k per level, decode, clip, drop tiny boxes, suppress within each level. Boxes and
/// scores, best first.
pub fn filter_proposals(
    objectness: &[f32],
    deltas: &[f32],
    anchors: &Anchors,
    size: (u32, u32),
    config: &RpnConfig,
    [pre_nms, post_nms]: [usize; 2],
) -> Vec<(Bbox, f32)> {
    let decoding = BoxDecoding {
        weights: [1.0; 4],
        max_log_scale: BOX_CLIP,
        min_size: config.min_size,
    };
    let size = [size.0 as f32, size.1 as f32];
    let deltas = deltas.as_chunks::<4>().0;
    let (mut boxes, mut scores, mut levels) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for (level, &count) in anchors.per_level.iter().enumerate() {
        for index in top_k(&objectness[first..first + count], pre_nms) {
            let anchor = first + index;
            let score = 1.0 / (1.0 + (-objectness[anchor]).exp());
            let bbox = decoding.decode(&deltas[anchor], &anchors.boxes[anchor], size);
            if let Some(bbox) = bbox.filter(|_| score.is_finite()) {
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
        .map(|kept| (boxes[kept], scores[kept]))
        .collect()
}

/// torchvision's `postprocess_detections`, best first, from `logits [r, k]` and `deltas [r, 4k]` of `rois`.
pub fn postprocess(
    logits: &[f32],
    deltas: &[f32],
    rois: &[Bbox],
    size: (u32, u32),
    config: &RoiConfig,
) -> Vec<ScoredBox> {
    if rois.is_empty() {
        return Vec::new();
    }
    let classes = logits.len() / rois.len();
    let decoding = BoxDecoding {
        weights: config.box_weights,
        max_log_scale: BOX_CLIP,
        min_size: 1e-2,
    };
    let size = [size.0 as f32, size.1 as f32];
    let deltas = deltas.as_chunks::<4>().0;
    let mut candidates = Vec::new();
    for (index, roi) in rois.iter().enumerate() {
        let scores = softmax_of(&logits[index * classes..][..classes]);
        for (label, &score) in scores.iter().enumerate().skip(1) {
            if score > config.score_threshold {
                let deltas = &deltas[index * classes + label];
                if let Some(bbox) = decoding.decode(deltas, roi, size) {
                    candidates.push(ScoredBox { bbox, label, score });
                }
            }
        }
    }
    let boxes: Vec<Bbox> = candidates.iter().map(|c| c.bbox).collect();
    let scores: Vec<f32> = candidates.iter().map(|c| c.score).collect();
    let labels: Vec<usize> = candidates.iter().map(|c| c.label).collect();
    batched_nms(&boxes, &scores, &labels, config.nms_iou)
        .into_iter()
        .take(config.max_detections)
        .map(|kept| candidates[kept])
        .collect()
}

fn softmax_of(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum: f32 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}
