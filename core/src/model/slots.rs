//! Scored boxes in fixed slots, best first, for static shapes on a device.
//!
//! A padded slot has a score of minus infinity; its box is finite and meaningless.

use crate::boxes::Bbox;
use burn::tensor::{Device, ExecutionError, Int, Tensor, TensorData};
use mrcnn_kernels::{nms_sorted, top_k_segments};
use std::slice;

/// Scored boxes of several images.
#[derive(Clone, Debug)]
pub struct BoxSlots {
    /// `[n, slots, 4]`, pixels of the resized images.
    pub boxes: Tensor<3>,
    /// `[n, slots]`; minus infinity marks a padded slot.
    pub scores: Tensor<2>,
}

impl BoxSlots {
    /// As many slots per image as the fullest one needs, at least one. The boxes must be sorted, best first; their
    /// score is 0.
    pub(crate) fn new(images: &[Vec<Bbox>], device: &Device) -> Self {
        let slots = images.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut boxes = vec![[0.0; 4]; images.len() * slots];
        let mut scores = vec![f32::NEG_INFINITY; images.len() * slots];
        for (image, found) in images.iter().enumerate() {
            boxes[image * slots..][..found.len()].copy_from_slice(found);
            scores[image * slots..][..found.len()].fill(0.0);
        }
        let boxes = TensorData::new(boxes.into_flattened(), [images.len(), slots, 4]);
        let scores = TensorData::new(scores, [images.len(), slots]);
        Self {
            boxes: Tensor::from_data(boxes, device),
            scores: Tensor::from_data(scores, device),
        }
    }

    /// The box of every valid slot and `None` in padded slots, per image.
    pub(crate) async fn read(self) -> Result<Vec<Vec<Option<Bbox>>>, ExecutionError> {
        let [_, slots] = self.scores.dims();
        let boxes = self.boxes.into_data_async().await?;
        let scores = self.scores.into_data_async().await?;
        let boxes: Vec<f32> = boxes.iter::<f32>().collect();
        let scores: Vec<f32> = scores.iter::<f32>().collect();
        let boxes = boxes.as_chunks::<4>().0.iter().zip(scores);
        let boxes = boxes.map(|(bbox, score)| (score > f32::NEG_INFINITY).then_some(*bbox));
        let boxes: Vec<Option<Bbox>> = boxes.collect();
        Ok(boxes.chunks(slots).map(<[_]>::to_vec).collect())
    }

    /// Non-maximum suppression within each of `runs` of equal length, each sorted, best first.
    pub(crate) fn suppress(self, runs: usize, iou_threshold: f64) -> Self {
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

    /// The `k` best slots of each image, and their former slots, `[n, k]` (-1 for padded slots).
    pub(crate) fn best(self, k: usize) -> (Self, Tensor<2, Int>) {
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

/// Image sizes (height, width) in pixels as `[n, 2]`.
pub fn image_sizes(sizes: &[(u32, u32)], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = sizes
        .iter()
        .flat_map(|&(height, width)| [height as f32, width as f32])
        .collect();
    Tensor::from_data(TensorData::new(values, [sizes.len(), 2]), device)
}
