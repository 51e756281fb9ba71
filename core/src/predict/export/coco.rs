//! COCO datasets of predictions, for correction in CVAT, Label Studio and others.

use super::editable;
use crate::data::{Classes, DetectionRecord, RleRecord};
use crate::detection::Detection;
use serde::Serialize;
use serde_json::{Value, json};
use vernier_mask::{MaskError, Rle};

/// An image of a COCO file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CocoImage {
    /// Unique id.
    pub id: u64,
    /// Path or name of the file.
    pub file_name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A COCO dataset whose annotations are results, with polygons in place of RLE masks. Outlines are moved by at most
/// [`super::EDIT_TOLERANCE`] pixels; objects with an empty mask are left out. Each annotation has its `score`.
///
/// # Errors
/// If a mask is not valid RLE.
pub fn coco_dataset(
    images: &[CocoImage],
    results: &[DetectionRecord],
    classes: &Classes,
) -> Result<Value, MaskError> {
    let mut annotations = Vec::new();
    for record in results {
        let detection = Detection {
            bbox: record.bbox,
            label: 0,
            score: record.score,
            mask: record.segmentation.mask()?,
        };
        let polygons: Vec<Vec<f64>> = editable(&detection)
            .iter()
            .map(|ring| ring.concat())
            .collect();
        if polygons.is_empty() {
            continue;
        }
        annotations.push(json!({
            "id": annotations.len() + 1,
            "image_id": record.image_id,
            "category_id": record.category_id,
            "segmentation": polygons,
            "bbox": detection.mask.bbox(),
            "area": detection.mask.area(),
            "iscrowd": 0,
            "score": record.score,
        }));
    }
    let categories = classes.names.iter().zip(&classes.ids);
    let categories: Vec<Value> = categories
        .map(|(name, id)| json!({"id": id, "name": name, "supercategory": ""}))
        .collect();
    Ok(json!({"images": images, "annotations": annotations, "categories": categories}))
}

impl RleRecord {
    /// The mask of the record.
    ///
    /// # Errors
    /// If the counts are not valid, or are not those of an image of this size.
    pub fn mask(&self) -> Result<Rle, MaskError> {
        let [height, width] = self.size;
        Rle::from_string_bytes(self.counts.as_bytes(), height, width)
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::data::check;

    #[test]
    fn the_dataset_passes_its_own_check() {
        let prediction = example();
        let folder = tempfile::tempdir().unwrap();
        let image = ::image::RgbImage::new(80, 60);
        image.save(folder.path().join("a.png")).unwrap();
        let images = [CocoImage {
            id: 5,
            file_name: "a.png".into(),
            width: 80,
            height: 60,
        }];
        let dataset = coco_dataset(&images, &prediction.to_coco(5), prediction.classes()).unwrap();
        assert_eq!(
            dataset["annotations"][2]["segmentation"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        let file = folder.path().join("annotations.json");
        std::fs::write(&file, dataset.to_string()).unwrap();
        let report = check(&file, Some(folder.path())).unwrap();
        assert_eq!(report.problems.len(), 0, "{report}");
    }
}
