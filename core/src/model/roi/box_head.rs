//! The box head: two fully connected layers, class scores and class-wise box deltas.

use crate::boxes::{self, Bbox, BoxCoder};
use crate::config::{ModelConfig, RoiConfig};
use crate::model::layers::{Linear, full};
use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::relu};
use mrcnn_kernels::batched_nms;

/// Two fully connected layers over a pooled region.
#[derive(Module, Debug)]
pub struct BoxHead {
    fc6: Linear,
    fc7: Linear,
}

impl BoxHead {
    /// A head with zero weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let pool = config.box_head.pool;
        let hidden = config.box_head.hidden;
        Self {
            fc6: Linear::new(config.fpn_channels * pool * pool, hidden, device),
            fc7: Linear::new(hidden, hidden, device),
        }
    }

    /// Pooled regions `[r, c, p, p]` -> `[r, hidden]`.
    pub fn forward(&self, pooled: Tensor<4>) -> Tensor<2> {
        let [r, c, h, w] = pooled.dims();
        let x = relu(self.fc6.forward(pooled.reshape([r, c * h * w])));
        relu(self.fc7.forward(x))
    }
}

/// Class scores and box deltas.
#[derive(Module, Debug)]
pub struct BoxPredictor {
    cls_score: Linear,
    bbox_pred: Linear,
}

impl BoxPredictor {
    /// A predictor with zero weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let hidden = config.box_head.hidden;
        Self {
            cls_score: Linear::new(hidden, config.num_classes, device),
            bbox_pred: Linear::new(hidden, config.num_classes * 4, device),
        }
    }

    /// `[r, hidden]` -> class logits `[r, k]` and box deltas `[r, 4k]`, the background first; f32.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let logits = self.cls_score.forward(x.clone());
        (full(logits), full(self.bbox_pred.forward(x)))
    }
}

/// A scored box of one class, in the pixels of the resized picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredBox {
    /// Where it is.
    pub bbox: Bbox,
    /// Class, `1..k`.
    pub label: usize,
    /// Softmax score.
    pub score: f32,
}

/// The detections of one picture, best first (torchvision's `postprocess_detections`).
///
/// * `logits [r, k]` and `deltas [r, 4k]`, row-major, for the proposals `rois`.
/// * `size` - height and width of the resized picture in pixels.
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
    let coder = BoxCoder {
        weights: config.box_weights,
    };
    let mut candidates = Vec::new();
    for (index, roi) in rois.iter().enumerate() {
        let scores = softmax(&logits[index * classes..][..classes]);
        for (label, &score) in scores.iter().enumerate().skip(1) {
            if score > config.score_threshold {
                let deltas = &deltas[(index * classes + label) * 4..][..4];
                let decoded = coder.decode(deltas, roi);
                let bbox = boxes::clip(decoded, size.0 as f32, size.1 as f32);
                let finite = decoded.iter().all(|v| v.is_finite());
                if finite && boxes::is_large_enough(&bbox, MIN_SIDE) {
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

/// Detections with a shorter side, in pixels, are dropped.
pub(crate) const MIN_SIDE: f32 = 1e-2;

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let sum: f32 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}
