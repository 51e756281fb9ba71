//! Selection on the device: scored boxes in fixed slots, best first, with nothing read in between.
//!
//! A slot is empty where its score is minus infinity; its box is finite and means nothing. The host
//! versions of the two selections, [`crate::model::filter_proposals`] and [`crate::model::postprocess`], are their
//! oracles and what the processor runs.

use super::box_head::{MIN_SIDE, ScoredBox};
use crate::boxes::{BOX_CLIP, cell_anchors};
use crate::config::{RoiConfig, RpnConfig};
use burn::tensor::{Device, ExecutionError, Int, Tensor, TensorData, activation::softmax};
use mrcnn_kernels::{BoxDecoding, decode_boxes, nms_sorted, top_k_segments};
use std::ops::Range;
use std::slice;

/// Scored boxes of several pictures.
#[derive(Clone, Debug)]
pub struct BoxSlots {
    /// `[n, slots, 4]`, pixels of the resized pictures.
    pub boxes: Tensor<3>,
    /// `[n, slots]`; minus infinity marks an empty slot.
    pub scores: Tensor<2>,
}

impl BoxSlots {
    /// Empties what overlaps a better box of the same run; the slots hold `runs` of equal length,
    /// each best first.
    fn suppress(self, runs: usize, iou_threshold: f64) -> Self {
        let [n, slots] = self.scores.dims();
        let [groups, k] = [n * runs, slots / runs];
        let scores = nms_sorted(
            self.boxes.clone().reshape([groups, k, 4]),
            self.scores.reshape([groups, k]),
            iou_threshold,
        );
        Self {
            boxes: self.boxes,
            scores: scores.reshape([n, slots]),
        }
    }

    /// The `k` best slots of each picture, and where they were, `[n, k]` (-1 for empty slots).
    fn best(self, k: usize) -> (Self, Tensor<2, Int>) {
        let [n, slots] = self.scores.dims();
        let all = 0..slots;
        let (scores, places) = top_k_segments(self.scores, slice::from_ref(&all), k);
        let places = places.reshape([n, k]);
        let corners = places.clone().clamp_min(0).unsqueeze_dim::<3>(2);
        let best = Self {
            boxes: self.boxes.gather(1, corners.expand([n, k, 4])),
            scores: scores.reshape([n, k]),
        };
        (best, places)
    }
}

/// The anchors of one padded picture size on a device; the host's version is [`crate::boxes::Anchors`].
#[derive(Clone, Debug)]
pub struct AnchorSlots {
    /// `[1, a, 4]`, in the order of [`crate::boxes::Anchors`].
    pub boxes: Tensor<3>,
    /// Anchors of each level.
    pub per_level: Vec<usize>,
}

impl AnchorSlots {
    /// Anchors for a picture of `padded = (height, width)` pixels with feature maps `grids` `(rows,
    /// columns)`. Made on the device: 270,000 anchors of a large picture are 4 MB to upload.
    pub fn new(
        padded: (usize, usize),
        grids: &[(usize, usize)],
        config: &RpnConfig,
        device: &Device,
    ) -> Self {
        let levels = grids.iter().zip(&config.anchor_sizes);
        let levels = levels.map(|(&(rows, columns), &size)| {
            let cells = cell_anchors(size, &config.anchor_ratios, config.round_anchors);
            let ratios = cells.len();
            let cells = TensorData::new(cells.into_flattened(), [1, 1, ratios, 4]);
            let axis = |count: usize, length: usize| {
                let stride = (length / count.max(1)) as f32;
                Tensor::<1, Int>::arange(0..count as i64, device).float() * stride
            };
            let shape = [rows, columns, 1, 1];
            let y = axis(rows, padded.0).reshape([rows, 1, 1, 1]).expand(shape);
            let x = axis(columns, padded.1).reshape([1, columns, 1, 1]);
            let x = x.expand(shape);
            let shifts = Tensor::cat(vec![x.clone(), y.clone(), x, y], 3);
            let boxes = shifts.expand([rows, columns, ratios, 4])
                + Tensor::<4>::from_data(cells, device).expand([rows, columns, ratios, 4]);
            boxes.reshape([1, rows * columns * ratios, 4])
        });
        let levels: Vec<Tensor<3>> = levels.collect();
        Self {
            per_level: levels.iter().map(|boxes| boxes.dims()[1]).collect(),
            boxes: Tensor::cat(levels, 1),
        }
    }
}

/// Boxes `[n, slots, 4]` as `[n * slots, 6]` rows for RoIAlign: picture, level `k_min..=k_max`
/// counted from `k_min`, box. Levels as [`crate::boxes::pyramid_level`] gives them.
pub fn roi_rows(boxes: Tensor<3>, (k_min, k_max): (i32, i32)) -> Tensor<2> {
    let [n, slots, _] = boxes.dims();
    let corner = |i: usize| boxes.clone().narrow(2, i, 1);
    let side = ((corner(2) - corner(0)) * (corner(3) - corner(1))).sqrt();
    // A box is pooled from level k or a coarser one where its side is 224 * 2^(k - 4) pixels or
    // more: comparisons round alike on every device, logarithms do not.
    let levels = (k_min + 1..=k_max)
        .map(|k| 224.0 * (k as f32 - 4.0 - 1e-6).exp2())
        .map(|smallest| side.clone().greater_equal_elem(smallest).float())
        .fold(side.zeros_like(), |sum, is_coarser| sum + is_coarser);
    let pictures: Vec<f32> = (0..n).map(|picture| picture as f32).collect();
    let pictures = TensorData::new(pictures, [n, 1, 1]);
    let pictures = Tensor::<3>::from_data(pictures, &side.device()).expand([n, slots, 1]);
    Tensor::cat(vec![pictures, levels, boxes], 2).reshape([n * slots, 6])
}

/// Pictures' sizes (height, width) in pixels as `[n, 2]`.
pub fn picture_sizes(sizes: &[(u32, u32)], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = sizes
        .iter()
        .flat_map(|&(height, width)| [height as f32, width as f32])
        .collect();
    Tensor::from_data(TensorData::new(values, [sizes.len(), 2]), device)
}

/// The best proposals of each picture: the slots' version of [`crate::model::filter_proposals`].
///
/// * `objectness [n, a]` - logits; `deltas [n, a, 4]`, for the `a` anchors.
/// * `sizes [n, 2]` - see [`picture_sizes`].
/// * `pre_nms`, `post_nms` - proposals kept a level before, and in all after, suppression.
pub fn filter_proposal_slots(
    objectness: Tensor<2>,
    deltas: Tensor<3>,
    anchors: &AnchorSlots,
    sizes: Tensor<2>,
    config: &RpnConfig,
    [pre_nms, post_nms]: [usize; 2],
) -> BoxSlots {
    let [n, _] = objectness.dims();
    let levels = consecutive(&anchors.per_level);
    let (logits, indices) = top_k_segments(objectness, &levels, pre_nms);
    let slots = levels.len() * pre_nms;
    let scores = (logits.reshape([n, slots]).neg().exp() + 1.0).recip();
    let decoding = BoxDecoding {
        weights: [1.0; 4],
        max_log_scale: BOX_CLIP,
        min_size: config.min_size,
    };
    let indices = indices.reshape([n, slots]);
    let anchors = anchors.boxes.clone();
    let (boxes, scores) = decode_boxes(deltas, anchors, scores, indices, sizes, &decoding);
    let proposals = BoxSlots { boxes, scores };
    proposals
        .suppress(levels.len(), config.nms_iou)
        .best(post_nms)
        .0
}

fn consecutive(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut end = 0;
    lengths
        .iter()
        .map(|length| {
            end += length;
            end - length..end
        })
        .collect()
}

/// Detected boxes of several pictures, best first.
#[derive(Clone, Debug)]
pub struct DetectionSlots {
    /// Boxes and scores.
    pub boxes: BoxSlots,
    /// Classes `1..k`, `[n, slots]`.
    pub labels: Tensor<2, Int>,
}

impl DetectionSlots {
    /// The filled slots of each picture, in one read. Errs where the device fails.
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

/// The detections of each picture: the slots' version of [`crate::model::postprocess`].
///
/// * `logits [n * r, k]` and `deltas [n * r, 4k]` of the `r` slots a picture of `proposals`.
/// * `sizes [n, 2]` - see [`picture_sizes`].
///
/// Where scores of two classes are equal, the lower class comes first.
pub fn postprocess_slots(
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
    // One run of regions a class, so that a class is a segment; the background's is left out.
    let scores = scores.swap_dims(1, 2).reshape([n, classes * r]);
    let deltas = deltas.reshape([n, r, classes, 4]).swap_dims(1, 2);
    let segments: Vec<Range<usize>> = (1..classes).map(|c| c * r..(c + 1) * r).collect();
    let (scores, indices) = top_k_segments(scores, &segments, r);
    let slots = segments.len() * r;
    let decoding = BoxDecoding {
        weights: config.box_weights,
        max_log_scale: BOX_CLIP,
        min_size: MIN_SIDE,
    };
    let (boxes, scores) = decode_boxes(
        deltas.reshape([n, classes * r, 4]),
        proposals.boxes.clone(),
        scores.reshape([n, slots]),
        indices.reshape([n, slots]),
        sizes,
        &decoding,
    );
    let candidates = BoxSlots { boxes, scores };
    let (boxes, places) = candidates
        .suppress(segments.len(), config.nms_iou)
        .best(config.max_detections);
    let labels = places.clamp_min(0).div_scalar(r as i64) + 1;
    DetectionSlots { boxes, labels }
}
