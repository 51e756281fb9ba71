//! Training images as pixels, with their ground truth drawn.

use super::batch::Batch;
use super::loader::Loader;
use crate::config::{Config, ImageConfig};
use crate::data::{Classes, Dataset};
use crate::detection::Detection;
use crate::image::overlay::{OverlayOptions, draw};
use crate::train::error::LoadError;
use crate::train::rank::Rank;
use ::image::{Rgb, RgbImage};
use std::sync::Arc;

/// Image `index` of a batch as the network receives it, with boxes, masks and names of its objects.
pub fn draw_ground_truth(
    batch: &Batch,
    index: usize,
    classes: &Classes,
    config: &ImageConfig,
) -> RgbImage {
    let gt = &batch.gts[index];
    let objects = gt.boxes.iter().zip(&gt.labels).zip(&gt.masks);
    let objects: Vec<Detection> = objects
        .map(|((&bbox, &label), mask)| Detection {
            bbox,
            label,
            score: 1.0,
            mask: mask.to_rle(),
        })
        .collect();
    let options = OverlayOptions {
        scores: false,
        ..OverlayOptions::default()
    };
    let names = |label: usize| classes.name(label);
    draw(
        &batch_image(batch, index, config),
        &objects,
        &names,
        &options,
    )
}

/// The first `count` training images of a run as the network receives them, with the id of each.
pub fn preview(
    dataset: Arc<Dataset>,
    config: &Config,
    count: usize,
) -> Result<impl Iterator<Item = Result<(u64, RgbImage), LoadError>>, LoadError> {
    let mut config = config.clone();
    config.train.steps = count.div_ceil(config.train.batch_size);
    let loader = Loader::start(dataset.clone(), &config, 0, Rank::SINGLE)?;
    let draw = move |batch: Result<Batch, LoadError>| match batch {
        Err(error) => vec![Err(error)],
        Ok(batch) => (0..batch.image_ids.len())
            .map(|index| {
                let image = draw_ground_truth(&batch, index, &dataset.classes, &config.image);
                Ok((batch.image_ids[index], image))
            })
            .collect(),
    };
    let batches = std::iter::from_fn(move || loader.next_batch());
    Ok(batches.flat_map(draw).take(count))
}

/// Image `index` of a batch, without the padding of the batch.
pub fn batch_image(batch: &Batch, index: usize, config: &ImageConfig) -> RgbImage {
    let [_, _, rows, columns] = batch.shape;
    let (height, width) = batch.sizes[index];
    let planes = &batch.values[index * 3 * rows * columns..][..3 * rows * columns];
    RgbImage::from_fn(width, height, |x, y| {
        let mut pixel = [0; 3];
        for (plane, channel) in config.channels.planes().into_iter().enumerate() {
            let value = planes[(plane * rows + y as usize) * columns + x as usize];
            let (mean, std) = (config.mean[channel], config.std[channel]);
            pixel[channel] = ((value * std + mean) * 255.0).round().clamp(0.0, 255.0) as u8;
        }
        Rgb(pixel)
    })
}
