//! Sizes and random inputs of the problems, for images of the size to which the configuration resizes a landscape image.

use crate::boxes::pyramid_level;
use crate::config::Config;
use crate::model::{AnchorSlots, prefers_windows};
use crate::random::Stream;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use mrcnn_kernels::PyramidLevel;

/// Sizes of a batch of landscape images.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// Images per batch.
    pub(super) n: usize,
    /// Height and width of the padded image.
    pub(super) size: (usize, usize),
    /// Rows and columns of P2 to P6.
    pub(super) grids: Vec<(usize, usize)>,
}

/// Objects per image: a busy image of COCO.
pub(super) const OBJECTS: usize = 20;

impl Scene {
    pub(super) fn new(config: &Config, n: usize) -> Self {
        let image = &config.image;
        let pad = |side: u32| side.next_multiple_of(image.size_divisor.max(1)) as usize;
        let size = (
            pad(image.min_size.min(image.max_size)),
            pad(image.max_size.max(image.min_size)),
        );
        let grids = (2..7).map(|level| (size.0.div_ceil(1 << level), size.1.div_ceil(1 << level)));
        Self {
            n,
            size,
            grids: grids.collect(),
        }
    }

    /// Rows and columns at a stride of `2^level`.
    pub(super) fn grid(&self, level: usize) -> (usize, usize) {
        (
            self.size.0.div_ceil(1 << level),
            self.size.1.div_ceil(1 << level),
        )
    }

    /// P2 to P5 of the packed pyramid.
    pub(super) fn pyramid(&self) -> Vec<PyramidLevel> {
        let mut offset = 0;
        let level = |(index, &(height, width)): (usize, &(usize, usize))| {
            let level = PyramidLevel {
                height,
                width,
                offset,
                scale: 1.0 / (4 << index) as f32,
            };
            offset += height * width;
            level
        };
        self.grids[..4].iter().enumerate().map(level).collect()
    }

    /// The anchors of an image.
    pub(super) fn anchors(&self, config: &Config, device: &Device) -> AnchorSlots {
        AnchorSlots::new(self.size, &self.grids, &config.model.rpn, device)
    }

    /// Number of anchors of an image.
    pub(super) fn anchor_count(&self, config: &Config) -> usize {
        self.cells() * config.model.rpn.anchor_ratios.len()
    }

    /// Whether the losses of the RPN use windows of cells.
    pub(super) fn prefers_windows(&self, config: &Config) -> bool {
        prefers_windows(&config.model.rpn, self.cells() as u64)
    }

    /// Cells of the pyramid of an image.
    fn cells(&self) -> usize {
        let cells = self.grids.iter().map(|(rows, columns)| rows * columns);
        cells.sum()
    }

    /// Boxes with sides of 1 % to 40 % of the image's height, log-uniform.
    pub(super) fn boxes(&self, count: usize) -> Vec<[f32; 4]> {
        let stream = Stream::named("benchmark boxes", 0);
        let (height, width) = (self.size.0 as f32, self.size.1 as f32);
        let of = |i: u64| {
            let u = |k: u64| stream.uniform(4 * i + k) as f32;
            let [w, h] = [u(2), u(3)].map(|u| height * 0.01 * 40f32.powf(u));
            let (x, y) = (u(0) * (width - w).max(0.0), u(1) * (height - h).max(0.0));
            [x, y, (x + w).min(width), (y + h).min(height)]
        };
        (0..count as u64).map(of).collect()
    }

    /// `count` RoIs per image as rows `[image, level, x1, y1, x2, y2]` of [`Self::pyramid`].
    pub(super) fn rois(&self, count: usize) -> Vec<f32> {
        let boxes = self.boxes(count);
        let of_image = |image: usize| {
            let row = move |bbox: &[f32; 4]| {
                let level = pyramid_level(bbox, 2, 5) as f32;
                let [x1, y1, x2, y2] = *bbox;
                [image as f32, level, x1, y1, x2, y2]
            };
            boxes.iter().flat_map(row).collect::<Vec<f32>>()
        };
        (0..self.n).flat_map(of_image).collect()
    }
}

/// A tensor with the given values.
pub(super) fn upload<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Random numbers in `[-1, 1)`, f32.
pub(super) fn uniform<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}
