//! The batch at which a loss was not finite, for who looks for the reason.

use super::batch::Batch;
use crate::config::ImageConfig;
use crate::data::Dataset;
use crate::image::overlay::{OverlayOptions, draw};
use crate::weights::to_bytes;
use ::image::{Rgb, RgbImage};
use burn::tensor::TensorData;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::path::Path;

/// Writes into `folder`: `batch.safetensors` (`images [n, 3, h, w]` as the model got them, and the
/// `boxes [k, 4]` of each picture), `batch.json` (ids, files, boxes and labels), and each picture with
/// its boxes as it was after resizing and flipping.
pub fn dump_batch(
    folder: &Path,
    batch: &Batch,
    dataset: &Dataset,
    config: &ImageConfig,
) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut tensors = BTreeMap::new();
    let images = TensorData::new(batch.values.clone(), batch.shape);
    tensors.insert("images".to_string(), images);
    let mut pictures = Vec::new();
    for (index, id) in batch.image_ids.iter().enumerate() {
        let (truth, (height, width)) = (&batch.truths[index], batch.sizes[index]);
        let boxes: Vec<f32> = truth.boxes.iter().flatten().copied().collect();
        let shape = [truth.boxes.len(), 4];
        tensors.insert(format!("boxes.{id}"), TensorData::new(boxes, shape));
        let sample = dataset.samples.iter().find(|s| s.image_id == *id);
        pictures.push(json!({
            "image_id": id,
            "file": sample.map(|s| s.path.display().to_string()),
            "height": height,
            "width": width,
            "boxes": truth.boxes,
            "labels": truth.labels,
        }));
        let boxes = truth.boxes.iter().zip(&truth.labels);
        let drawn: Vec<_> = boxes.map(|(bbox, label)| outline(*bbox, *label)).collect();
        let options = OverlayOptions {
            scores: false,
            ..OverlayOptions::default()
        };
        let names = |label: usize| dataset.classes.name(label);
        let picture = draw(&picture(batch, index, config), &drawn, &names, &options);
        let path = folder.join(format!("{id}.png"));
        picture.save(path).map_err(Error::other)?;
    }
    let text = serde_json::to_string_pretty(&pictures)?;
    std::fs::write(folder.join("batch.json"), text)?;
    std::fs::write(folder.join("batch.safetensors"), to_bytes(&tensors)?)
}

fn outline(bbox: crate::boxes::Bbox, label: usize) -> crate::Detection {
    crate::Detection {
        bbox,
        label,
        score: 1.0,
        mask: vernier_mask::Rle::empty(0, 0),
    }
}

/// A picture of the batch as pixels again.
fn picture(batch: &Batch, index: usize, config: &ImageConfig) -> RgbImage {
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
