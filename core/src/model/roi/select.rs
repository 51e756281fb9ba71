//! Detections from the output of the box head, in fixed slots on the device.

use crate::boxes::{BOX_CLIP, Bbox};
use crate::config::RoiConfig;
use crate::model::slots::BoxSlots;
use burn::tensor::{ExecutionError, Int, Tensor, activation::softmax};
use mrcnn_kernels::{BoxDecoding, decode_boxes, top_k_segments};
use std::ops::Range;

fn decoding(config: &RoiConfig) -> BoxDecoding {
    BoxDecoding {
        weights: config.box_weights,
        max_log_scale: BOX_CLIP,
        min_size: MIN_SIDE,
    }
}

/// A scored box of one class, in pixels of the resized image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredBox {
    /// The box.
    pub bbox: Bbox,
    /// Class, `1..k`.
    pub label: usize,
    /// Softmax score.
    pub score: f32,
}

/// Detections with a shorter side, in pixels, are dropped.
const MIN_SIDE: f32 = 1e-2;

/// Detected boxes of several images, best first.
#[derive(Clone, Debug)]
pub struct DetectionSlots {
    /// Boxes and scores.
    pub boxes: BoxSlots,
    /// Classes `1..k`, `[n, slots]`.
    pub labels: Tensor<2, Int>,
}

impl DetectionSlots {
    /// The valid slots of each image, in one read. Fails if the device fails.
    pub async fn read(self) -> Result<Vec<Vec<ScoredBox>>, ExecutionError> {
        let [_, slots] = self.labels.dims();
        let columns = vec![
            self.boxes.boxes,
            self.boxes.scores.unsqueeze_dim(2),
            self.labels.float().unsqueeze_dim(2),
        ];
        let rows = Tensor::cat(columns, 2).into_data_async().await?;
        let rows: Vec<f32> = rows.convert::<f32>().iter::<f32>().collect();
        let rows = rows.as_chunks::<6>().0;
        let boxes = |rows: &[[f32; 6]]| {
            rows.iter()
                .filter(|[.., score, _]| *score > f32::NEG_INFINITY)
                .map(|&[x1, y1, x2, y2, score, label]| ScoredBox {
                    bbox: [x1, y1, x2, y2],
                    label: label as usize,
                    score,
                })
                .collect()
        };
        Ok(rows.chunks(slots.max(1)).map(boxes).collect())
    }
}

/// The detections of each image in fixed slots, best first, without reading from the device (torchvision's
/// `postprocess_detections`).
///
/// * `logits [n * r, k]` and `deltas [n * r, 4k]` of the `r` slots per image of `proposals`.
/// * `sizes [n, 2]` - see [`crate::model::image_sizes`].
///
/// If scores of two classes are equal, the lower class comes first.
pub fn postprocess(
    logits: Tensor<2>,
    deltas: Tensor<2>,
    proposals: &BoxSlots,
    sizes: Tensor<2>,
    config: &RoiConfig,
) -> DetectionSlots {
    let [n, r] = proposals.scores.dims();
    let classes = logits.dims()[1];
    let scores = softmax(logits, 1).reshape([n, r, classes]);
    let is_empty = proposals.scores.clone().lower_elem(0.0);
    let is_empty = is_empty.unsqueeze_dim::<3>(2).expand([n, r, classes]);
    let dropped = scores.clone().lower_equal_elem(config.score_threshold);
    let scores = scores.mask_fill(dropped.bool_or(is_empty), f32::NEG_INFINITY);
    // One run of RoIs per class, so that a class is a segment; the background's is left out.
    let scores = scores.swap_dims(1, 2).reshape([n, classes * r]);
    let deltas = deltas.reshape([n, r, classes, 4]).swap_dims(1, 2);
    let segments: Vec<Range<usize>> = (1..classes).map(|c| c * r..(c + 1) * r).collect();
    let (scores, indices) = top_k_segments(scores, &segments, r);
    let slots = segments.len() * r;
    let (boxes, scores) = decode_boxes(
        deltas.reshape([n, classes * r, 4]),
        proposals.boxes.clone(),
        scores.reshape([n, slots]),
        indices.reshape([n, slots]),
        sizes,
        &decoding(config),
    );
    let candidates = BoxSlots { boxes, scores };
    let (boxes, places) = candidates
        .suppress(segments.len(), config.nms_iou)
        .best(config.max_detections);
    let labels = places.clamp_min(0).div_scalar(r as i64) + 1;
    DetectionSlots { boxes, labels }
}
