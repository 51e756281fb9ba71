//! Dump of a batch whose loss was not finite, for debugging.

use crate::config::ImageConfig;
use crate::data::Dataset;
use crate::train::input::batch::Batch;
use crate::train::input::preview::draw_ground_truth;
use crate::weights::to_bytes;
use burn::tensor::TensorData;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::path::Path;

/// Writes into `folder`: `batch.safetensors` (`images [n, 3, h, w]` as the model received them, and the
/// `boxes [k, 4]` of each image), `batch.json` (ids, files, boxes and labels), and each image with
/// its boxes and masks as it was after augmentation.
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
    let mut images = Vec::new();
    for (index, id) in batch.image_ids.iter().enumerate() {
        let (gt, (height, width)) = (&batch.gts[index], batch.sizes[index]);
        let boxes: Vec<f32> = gt.boxes.iter().flatten().copied().collect();
        let shape = [gt.boxes.len(), 4];
        tensors.insert(format!("boxes.{id}"), TensorData::new(boxes, shape));
        let sample = dataset.samples.iter().find(|s| s.image_id == *id);
        images.push(json!({
            "image_id": id,
            "file": sample.map(|s| s.path.display().to_string()),
            "height": height,
            "width": width,
            "boxes": gt.boxes,
            "labels": gt.labels,
        }));
        let image = draw_ground_truth(batch, index, &dataset.classes, config);
        let path = folder.join(format!("{id}.png"));
        image.save(path).map_err(Error::other)?;
    }
    let text = serde_json::to_string_pretty(&images)?;
    std::fs::write(folder.join("batch.json"), text)?;
    std::fs::write(folder.join("batch.safetensors"), to_bytes(&tensors)?)
}
