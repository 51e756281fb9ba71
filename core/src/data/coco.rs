//! Detections in COCO's results format.

use crate::data::Classes;
use crate::detection::Detection;
use serde::{Deserialize, Serialize};

/// One detection in COCO's results format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionRecord {
    /// Image id of the annotation file.
    pub image_id: u64,
    /// Category id of the annotation file.
    pub category_id: u64,
    /// `x, y, width, height` in pixels.
    pub bbox: [f32; 4],
    /// Score in `0..=1`.
    pub score: f32,
    /// Mask of the object.
    pub segmentation: RleRecord,
    /// File name of the image in the annotation file, or its path outside a dataset. Results are matched by
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
}

/// A compressed RLE mask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RleRecord {
    /// Height and width in pixels.
    pub size: [u32; 2],
    /// COCO's compressed counts.
    pub counts: String,
}

impl RleRecord {
    /// The record of a mask.
    pub fn new(mask: &vernier_mask::Rle) -> Self {
        let counts = String::from_utf8_lossy(&mask.to_string_bytes()).into_owned();
        Self {
            size: [mask.h, mask.w],
            counts,
        }
    }
}

/// Detections of an image in COCO's results format.
pub fn detections_json(
    image_id: u64,
    file_name: Option<&str>,
    detections: &[Detection],
    classes: &Classes,
) -> Vec<DetectionRecord> {
    let record = |detection: &Detection| {
        let [x1, y1, x2, y2] = detection.bbox;
        DetectionRecord {
            image_id,
            category_id: classes.category_id(detection.label).unwrap_or_default(),
            bbox: [x1, y1, x2 - x1, y2 - y1],
            score: detection.score,
            segmentation: RleRecord::new(&detection.mask),
            file_name: file_name.map(String::from),
        }
    };
    detections.iter().map(record).collect()
}
