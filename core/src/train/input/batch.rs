//! A training batch: prepared images with their ground truth.

use super::masks::InstanceMask;
use crate::boxes::Bbox;
use crate::config::ImageConfig;
use crate::data::{LeftOut, Sample};
use crate::image::Placement;
use crate::image::transform::{Planes, padded_size, prepare_window, stack_to};
use crate::random::Stream;
use ::image::RgbImage;
use burn::tensor::{Device, Tensor, TensorData};

/// The objects of an image, in pixels of the resized image; crowds are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroundTruth {
    /// Boxes.
    pub boxes: Vec<Bbox>,
    /// Classes, `1..=K`.
    pub labels: Vec<usize>,
    /// Masks.
    pub masks: Vec<InstanceMask>,
}

/// One prepared image.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSample {
    /// Id in the annotation file.
    pub image_id: u64,
    /// The normalized, resized image.
    pub planes: Planes,
    /// Its ground truth.
    pub gt: GroundTruth,
}

impl TrainSample {
    /// Prepares a decoded image, flipped horizontally if `flip`.
    pub fn new(image: RgbImage, sample: &Sample, config: &ImageConfig, flip: bool) -> Self {
        let original = (image.height(), image.width());
        let resized = config.resized(original.0, original.1);
        let placement = Placement::whole(original, resized, flip);
        Self::placed(&image, sample, config, &placement)
    }

    /// Prepares the part of a decoded image that `placement` shows.
    ///
    /// An object at the border gets the box of the remaining part of its mask. Objects without remaining pixels are
    /// left out, as are objects smaller than a pixel in an image that is cropped.
    pub fn placed(
        image: &RgbImage,
        sample: &Sample,
        config: &ImageConfig,
        placement: &Placement,
    ) -> Self {
        let mut gt = GroundTruth::default();
        for instance in sample
            .instances
            .iter()
            .filter(|instance| !instance.is_crowd)
        {
            let mut bbox = placement.place(&instance.bbox);
            let mask = InstanceMask::placed(&instance.mask, placement);
            if !placement.is_whole() {
                let Some(bounds) = mask.bounds() else {
                    continue;
                };
                if is_cut(&bbox, placement) {
                    bbox = bounds;
                }
            }
            // A box without area would give infinite deltas.
            if bbox[2] > bbox[0] && bbox[3] > bbox[1] {
                gt.boxes.push(bbox);
                gt.labels.push(instance.label);
                gt.masks.push(mask);
            }
        }
        Self {
            image_id: sample.image_id,
            planes: prepare_window(image, config, placement),
            gt,
        }
    }
}

/// Whether a box extends beyond its window.
fn is_cut(bbox: &Bbox, placement: &Placement) -> bool {
    let (height, width) = (placement.size.0 as f32, placement.size.1 as f32);
    bbox[0] < 0.0 || bbox[1] < 0.0 || bbox[2] > width || bbox[3] > height
}

/// A batch of training images.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[n, 3, h, w]`, zero-padded right and bottom.
    pub values: Vec<f32>,
    /// Shape of `values`.
    pub shape: [usize; 4],
    /// `(height, width)` of each image without padding.
    pub sizes: Vec<(u32, u32)>,
    /// Objects of each image.
    pub gts: Vec<GroundTruth>,
    /// Ids of the images.
    pub image_ids: Vec<u64>,
    /// Position of each image in the step, which determines its samples on every rank.
    pub places: Vec<usize>,
    /// Images that could not be used, with `data.on_problem = "skip"`.
    pub left_out: Vec<LeftOut>,
}

impl Batch {
    /// Stacks prepared images; their sides are padded to a multiple of `divisor`.
    pub fn new(samples: Vec<TrainSample>, divisor: u32) -> Self {
        Self::at_least(samples, divisor, (1, 1))
    }

    /// As [`Self::new`], with at least `least` rows and columns.
    pub fn at_least(samples: Vec<TrainSample>, divisor: u32, least: (usize, usize)) -> Self {
        let sizes = samples.iter().map(|sample| {
            let Planes { height, width, .. } = sample.planes;
            (height as u32, width as u32)
        });
        let size = padded_size(sizes, divisor, least);
        Self::of_shard(samples.into_iter().enumerate().collect(), size)
    }

    /// Stacks a rank's shard of a step's images, each with its position in the step, padded to
    /// `(height, width)` like the whole step. It may be empty.
    pub fn of_shard(samples: Vec<(usize, TrainSample)>, size: (usize, usize)) -> Self {
        let (places, samples): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        let planes: Vec<&Planes> = samples.iter().map(|sample| &sample.planes).collect();
        let (values, shape) = stack_to(&planes, size);
        let sizes = planes
            .iter()
            .map(|p| (p.height as u32, p.width as u32))
            .collect();
        let image_ids = samples.iter().map(|sample| sample.image_id).collect();
        let gts = samples.into_iter().map(|sample| sample.gt).collect();
        Self {
            values,
            shape,
            sizes,
            gts,
            image_ids,
            places,
            left_out: Vec::new(),
        }
    }

    /// The images on `device`, `[n, 3, h, w]`.
    pub fn images(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape), device)
    }

    /// The random numbers for sampling the anchors and RoIs of an image; `stream` is that of the step.
    pub(crate) fn streams(&self, image: usize, stream: Stream) -> [Stream; 2] {
        let place = 2 * self.places[image] as u64;
        [stream.fork(place), stream.fork(place + 1)]
    }

    /// Splits the batch into `shards` of equal size, or with one more image in the first ones; never into empty
    /// ones. Padding is kept; positions are renumbered in each shard.
    pub fn split(self, shards: usize) -> Vec<Self> {
        let images = self.image_ids.len();
        let shards = shards.clamp(1, images.max(1));
        let [_, channels, height, width] = self.shape;
        let mut values = self.values.into_iter();
        let (mut sizes, mut gts) = (self.sizes.into_iter(), self.gts.into_iter());
        let mut image_ids = self.image_ids.into_iter();
        let take = |shard: usize| {
            let count = images / shards + usize::from(shard < images % shards);
            let elements = count * channels * height * width;
            Self {
                values: values.by_ref().take(elements).collect(),
                shape: [count, channels, height, width],
                sizes: sizes.by_ref().take(count).collect(),
                gts: gts.by_ref().take(count).collect(),
                image_ids: image_ids.by_ref().take(count).collect(),
                places: (0..count).collect(),
                left_out: Vec::new(),
            }
        };
        (0..shards).map(take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_batch_keeps_every_image() {
        let batch = Batch {
            values: (0..5 * 12).map(|v| v as f32).collect(),
            shape: [5, 3, 2, 2],
            sizes: (1..=5).map(|h| (h, 2)).collect(),
            gts: vec![GroundTruth::default(); 5],
            image_ids: (10..15).collect(),
            places: (0..5).collect(),
            left_out: Vec::new(),
        };
        let shards = batch.clone().split(2);
        let ids: Vec<_> = shards.iter().map(|shard| shard.image_ids.clone()).collect();
        assert_eq!(ids, [vec![10, 11, 12], vec![13, 14]]);
        assert_eq!(shards[1].shape, [2, 3, 2, 2]);
        assert_eq!(shards[1].values, batch.values[36..]);
        assert_eq!(shards[1].sizes, [(4, 2), (5, 2)]);
        assert_eq!(batch.split(9).len(), 5);
    }
}
