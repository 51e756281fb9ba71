//! Proposals from the output of the RPN, in fixed slots on the device.

use crate::boxes::{AnchorLayout, BOX_CLIP, cell_anchors};
use crate::config::RpnConfig;
use crate::model::slots::BoxSlots;
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{BoxDecoding, decode_proposals, top_k_segments};
use std::ops::Range;

fn decoding(config: &RpnConfig) -> BoxDecoding {
    BoxDecoding {
        weights: [1.0; 4],
        max_log_scale: BOX_CLIP,
        min_size: config.min_size,
    }
}

/// The anchors of one padded image size on a device.
#[derive(Clone, Debug)]
pub struct AnchorSlots {
    /// `[1, a, 4]`, in the order of `boxes::Anchors`.
    pub boxes: Tensor<3>,
    /// Number of anchors per level.
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
        let layout = AnchorLayout {
            rounded: config.round_anchors,
            offset: config.anchor_offset,
        };
        let levels = grids.iter().zip(&config.anchor_sizes).enumerate();
        let levels = levels.map(|(level, (&(rows, columns), &size))| {
            let cells = cell_anchors(size, &config.anchor_ratios, config.round_anchors);
            let ratios = cells.len();
            let cells = TensorData::new(cells.into_flattened(), [1, 1, ratios, 4]);
            let axis = |count: usize, length: usize| {
                let stride = layout.spacing(length, count, level);
                let places = (0..count).map(|cell| (cell as f32 + layout.offset) * stride);
                Tensor::<1>::from_data(TensorData::new(places.collect(), [count]), device)
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

/// The best proposals of each image in fixed slots, best first, without reading from the device.
///
/// Follows torchvision's `filter_proposals`: top-k per level, decode, clip, drop tiny boxes, suppress within each
/// level. Anchors whose logit is NaN or whose box is not finite are left out; infinite logits are scores of 0 and 1.
///
/// * `objectness [n, a]` - logits; `deltas [n, a, 4]`, for the `a` anchors.
/// * `sizes [n, 2]` - see [`crate::model::image_sizes`].
/// * `pre_nms`, `post_nms` - maximum number of proposals per level before, and per image after, suppression.
pub fn filter_proposals(
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
    let (boxes, scores) = decode_proposals(
        deltas,
        anchors.boxes.clone(),
        logits.reshape([n, slots]),
        indices.reshape([n, slots]),
        sizes,
        &decoding(config),
    );
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
