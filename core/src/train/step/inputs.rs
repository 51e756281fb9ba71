//! Uploaded inputs of the sampling of a step: ground truth, seeds and image sizes.

use crate::model::image_sizes;
use crate::random::Stream;
use crate::train::input::batch::Batch;
use crate::train::input::masks::bit_masks;
use burn::tensor::kind::Basic;
use burn::tensor::{Device, Float, Int, Tensor, TensorData};
use mrcnn_kernels::{Overwrite, sampling_seeds, upload_dense};

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

/// The tensors of [`SampleInputs`] in one dimension, with their shapes.
#[derive(Clone, Debug)]
pub(super) struct FlatInputs {
    boxes: (Tensor<1>, [usize; 3]),
    sizes: (Tensor<1>, [usize; 2]),
    labels: (Tensor<1, Int>, [usize; 2]),
    counts: Tensor<1, Int>,
    windows: (Tensor<1, Int>, [usize; 3]),
    words: Tensor<1, Int>,
    /// Of anchors, then of RoIs.
    seeds: [(Tensor<1, Int>, [usize; 2]); 2],
}

fn flat<const D: usize, K: Basic>(tensor: Tensor<D, K>) -> (Tensor<1, K>, [usize; D]) {
    let shape = tensor.dims();
    (tensor.reshape([shape.iter().product::<usize>()]), shape)
}

fn shaped<const D: usize, K: Basic>((flat, shape): &(Tensor<1, K>, [usize; D])) -> Tensor<D, K> {
    flat.clone().reshape(*shape)
}

impl SampleInputs {
    pub(super) fn flat(self) -> FlatInputs {
        let Self { gt, seeds, sizes } = self;
        let (windows, words) = gt.masks;
        FlatInputs {
            boxes: flat(gt.boxes),
            sizes: flat(sizes),
            labels: flat(gt.labels),
            counts: gt.counts,
            windows: flat(windows),
            words,
            seeds: [flat(seeds.anchors), flat(seeds.rois)],
        }
    }
}

impl FlatInputs {
    pub(super) fn shaped(&self) -> SampleInputs {
        let [anchors, rois] = &self.seeds;
        SampleInputs {
            gt: GroundTruthSlots {
                boxes: shaped(&self.boxes),
                labels: shaped(&self.labels),
                counts: self.counts.clone(),
                masks: (shaped(&self.windows), self.words.clone()),
            },
            seeds: Seeds {
                anchors: shaped(anchors),
                rois: shaped(rois),
            },
            sizes: shaped(&self.sizes),
        }
    }

    /// Lengths of all tensors, which determine their shapes together with the number of images.
    pub(super) fn lengths(&self) -> Vec<usize> {
        let floats = [&self.boxes.0, &self.sizes.0].map(|tensor| tensor.dims()[0]);
        let integers = self.integers().map(|tensor| tensor.dims()[0]);
        floats.into_iter().chain(integers).collect()
    }

    fn integers(&self) -> [Tensor<1, Int>; 6] {
        let [(anchors, _), (rois, _)] = &self.seeds;
        [
            &self.labels.0,
            &self.counts,
            &self.windows.0,
            &self.words,
            anchors,
            rois,
        ]
        .map(Clone::clone)
    }

    /// Each tensor with that of `new`, of the same lengths: floats and integers.
    pub(super) fn pairs(&self, new: Self) -> (Vec<Overwrite<Float>>, Vec<Overwrite<Int>>) {
        let floats = vec![
            (self.boxes.0.clone(), new.boxes.0.clone()),
            (self.sizes.0.clone(), new.sizes.0.clone()),
        ];
        let integers = self.integers().into_iter().zip(new.integers());
        (floats, integers.collect())
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
const MIN_SLOTS: usize = 16;

impl GroundTruthSlots {
    fn new(batch: &Batch, device: &Device) -> Self {
        let n = batch.gts.len();
        let most = batch.gts.iter().map(|gt| gt.boxes.len()).max();
        let slots = most.unwrap_or(0).next_power_of_two().max(MIN_SLOTS);
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
            boxes: upload_dense(boxes, device),
            labels: upload_dense(TensorData::new(labels, [n, slots]), device),
            counts: Tensor::from_data(TensorData::new(counts, [n]), device),
            masks: bit_masks(masks, slots).upload(n, device),
        }
    }
}
