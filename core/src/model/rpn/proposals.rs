//! Proposals from the output of the RPN: on the device in fixed slots, or on the host.

use crate::boxes::{Anchors, BOX_CLIP, Bbox, cell_anchors};
use crate::config::RpnConfig;
use crate::model::slots::BoxSlots;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::{BoxDecoding, batched_nms, decode_boxes, top_k, top_k_segments};
use std::ops::Range;

fn decoding(config: &RpnConfig) -> BoxDecoding {
    BoxDecoding {
        weights: [1.0; 4],
        max_log_scale: BOX_CLIP,
        min_size: config.min_size,
    }
}

/// A box that may hold an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// Pixels of the resized image.
    pub bbox: Bbox,
    /// Probability of being an object.
    pub score: f32,
}

/// The best proposals of one image, best first.
///
/// * `objectness` - logits, one per anchor; `deltas` - four per anchor.
/// * `size` - height and width of the resized image in pixels, without padding.
/// * `pre_nms`, `post_nms` - proposals kept per level before, and in all after, suppression.
///
/// Follows torchvision's `filter_proposals`: top-k per level, decode, clip, drop tiny boxes, suppress
/// within each level. Anchors with a score or delta that is not finite are left out.
pub fn filter_proposals(
    objectness: &[f32],
    deltas: &[f32],
    anchors: &Anchors,
    size: (u32, u32),
    config: &RpnConfig,
    [pre_nms, post_nms]: [usize; 2],
) -> Vec<Proposal> {
    let decoding = decoding(config);
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
        .map(|kept| Proposal {
            bbox: boxes[kept],
            score: scores[kept],
        })
        .collect()
}

/// RPN predictions of a batch on the host.
pub struct HostRpn {
    objectness: Vec<f32>,
    deltas: Vec<f32>,
    /// The anchors that the predictions are for.
    pub anchors: Anchors,
}

impl HostRpn {
    /// From `objectness [n, a]` and `deltas [n, a, 4]` of the `a` anchors.
    pub fn new(objectness: &TensorData, deltas: &TensorData, anchors: Anchors) -> Self {
        Self {
            objectness: objectness.iter::<f32>().collect(),
            deltas: deltas.iter::<f32>().collect(),
            anchors,
        }
    }

    /// [`filter_proposals`] of one image, without the scores.
    pub fn proposals(
        &self,
        image: usize,
        size: (u32, u32),
        config: &RpnConfig,
        limits: [usize; 2],
    ) -> Vec<Bbox> {
        let count = self.anchors.boxes.len();
        let objectness = &self.objectness[image * count..][..count];
        let deltas = &self.deltas[image * count * 4..][..count * 4];
        let kept = filter_proposals(objectness, deltas, &self.anchors, size, config, limits);
        kept.into_iter().map(|proposal| proposal.bbox).collect()
    }
}

/// The anchors of one padded image size on a device; the host's version is [`crate::boxes::Anchors`].
#[derive(Clone, Debug)]
pub struct AnchorSlots {
    /// `[1, a, 4]`, in the order of [`crate::boxes::Anchors`].
    pub boxes: Tensor<3>,
    /// Anchors of each level.
    pub per_level: Vec<usize>,
}

impl AnchorSlots {
    /// Anchors for an image of `padded = (height, width)` pixels with feature maps `grids` `(rows,
    /// columns)`. Computed on the device: uploading 270,000 anchors of a large image would take 4 MB.
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

/// The best proposals of each image in fixed slots, without reading from the device; [`filter_proposals`] is the host's
/// version.
///
/// * `objectness [n, a]` - logits; `deltas [n, a, 4]`, for the `a` anchors.
/// * `sizes [n, 2]` - see [`crate::model::image_sizes`].
/// * `pre_nms`, `post_nms` - proposals kept per level before, and in all after, suppression.
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
    let indices = indices.reshape([n, slots]);
    let anchors = anchors.boxes.clone();
    let (boxes, scores) = decode_boxes(deltas, anchors, scores, indices, sizes, &decoding(config));
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
