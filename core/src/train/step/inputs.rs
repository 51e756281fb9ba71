//! Uploaded inputs of the sampling of a step: ground truth, seeds and image sizes.

use crate::model::image_sizes;
use crate::random::Stream;
use crate::train::input::batch::Batch;
use crate::train::input::masks::bit_masks;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::sampling_seeds;

/// A batch on a device, without its images and without a graph.
#[derive(Clone, Debug)]
pub struct SampleInputs {
    pub(super) gt: GroundTruthSlots,
    pub(super) seeds: Seeds,
    /// See [`image_sizes`].
    pub(super) sizes: Tensor<2>,
}

/// Seeds of the images, `[n, 2]`; see [`sampling_seeds`].
#[derive(Clone, Debug)]
pub(super) struct Seeds {
    pub(super) anchors: Tensor<2, Int>,
    pub(super) rois: Tensor<2, Int>,
}

impl SampleInputs {
    /// Uploads a batch to `device`; `stream` determines the samples, so every step needs its own.
    pub fn new(batch: &Batch, stream: Stream, device: &Device) -> Self {
        let streams = (0..batch.gts.len()).map(|image| batch.streams(image, stream));
        let (anchors, rois): (Vec<u64>, Vec<u64>) = streams
            .map(|[anchors, rois]| (anchors.seed(), rois.seed()))
            .unzip();
        Self {
            gt: GroundTruthSlots::new(batch, device),
            seeds: Seeds {
                anchors: sampling_seeds(&anchors, device),
                rois: sampling_seeds(&rois, device),
            },
            sizes: image_sizes(&batch.sizes, device),
        }
    }
}

/// The ground truth of a batch, without a graph. The number of slots per image is a power of two, so that few shapes
/// occur.
#[derive(Clone, Debug)]
pub(super) struct GroundTruthSlots {
    /// `[n, t, 4]`, pixels of the resized images.
    pub(super) boxes: Tensor<3>,
    /// Classes, `[n, t]`.
    pub(super) labels: Tensor<2, Int>,
    /// Objects per image, in its first slots, `[n]`.
    pub(super) counts: Tensor<1, Int>,
    /// See [`mask_targets`](mrcnn_kernels::mask_targets).
    pub(super) masks: (Tensor<3, Int>, Tensor<1, Int>),
}

/// Minimum number of ground-truth slots per image.
const LEAST_SLOTS: usize = 16;

impl GroundTruthSlots {
    fn new(batch: &Batch, device: &Device) -> Self {
        let n = batch.gts.len();
        let most = batch.gts.iter().map(|gt| gt.boxes.len()).max();
        let slots = most.unwrap_or(0).next_power_of_two().max(LEAST_SLOTS);
        let mut boxes = vec![[0.0f32; 4]; n * slots];
        let mut labels = vec![0i32; n * slots];
        for (image, gt) in batch.gts.iter().enumerate() {
            for (slot, (bbox, &label)) in gt.boxes.iter().zip(&gt.labels).enumerate() {
                boxes[image * slots + slot] = *bbox;
                labels[image * slots + slot] = label as i32;
            }
        }
        let counts: Vec<i32> = batch.gts.iter().map(|t| t.boxes.len() as i32).collect();
        let masks = batch.gts.iter().map(|gt| gt.masks.as_slice());
        let boxes = TensorData::new(boxes.into_flattened(), [n, slots, 4]);
        Self {
            boxes: Tensor::from_data(boxes, device),
            labels: Tensor::from_data(TensorData::new(labels, [n, slots]), device),
            counts: Tensor::from_data(TensorData::new(counts, [n]), device),
            masks: bit_masks(masks, slots).upload(n, device),
        }
    }
}
