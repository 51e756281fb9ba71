//! The COCO file format.

use crate::data::Classes;
use crate::detection::Detection;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An annotation file; every list may be missing.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CocoFile {
    #[serde(default)]
    pub images: Vec<CocoImage>,
    #[serde(default)]
    pub annotations: Vec<CocoAnnotation>,
    #[serde(default)]
    pub categories: Vec<CocoCategory>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct CocoImage {
    pub id: u64,
    pub file_name: String,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct CocoCategory {
    pub id: u64,
    pub name: String,
}

/// An annotation; coordinates are optional so that a NaN is named and not refused with its file.
#[derive(Debug, Deserialize)]
pub(super) struct CocoAnnotation {
    #[serde(default)]
    pub id: u64,
    pub image_id: u64,
    pub category_id: u64,
    #[serde(default)]
    pub bbox: Option<Vec<Option<f64>>>,
    #[serde(default)]
    pub area: Option<f64>,
    #[serde(default)]
    pub iscrowd: u8,
    #[serde(default)]
    pub segmentation: Option<Segmentation>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Segmentation {
    Polygons(Vec<Vec<Option<f64>>>),
    Rle { size: [u32; 2], counts: Counts },
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Counts {
    Compressed(String),
    Runs(Vec<u32>),
    Other(IgnoredAny),
}

/// Parses an annotation file; the error says line and column.
pub(super) fn parse(text: &str) -> Result<CocoFile, String> {
    // Python writes NaN and Infinity, which JSON does not know.
    let text = if text.contains("NaN") || text.contains("Infinity") {
        std::borrow::Cow::Owned(without_nan(text))
    } else {
        std::borrow::Cow::Borrowed(text)
    };
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Replaces NaN and Infinity outside strings by null, keeping the length where it can.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, part) in split_strings(text).enumerate() {
        if index % 2 == 0 {
            let part = part
                .replace("-Infinity", "null")
                .replace("Infinity", "null");
            out.push_str(&part.replace("NaN", "null"));
        } else {
            out.push_str(part);
        }
    }
    out
}

/// Splits JSON into text outside (even) and inside (odd) of string literals, quotes included.
fn split_strings(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let mut inside = false;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if inside {
            string_end(rest)
        } else {
            rest.find('"').unwrap_or(rest.len())
        };
        let (part, after) = rest.split_at(end);
        (rest, inside) = (after, !inside);
        Some(part)
    })
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// One detection in COCO's results format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionRecord {
    /// Picture.
    pub image_id: u64,
    /// Category of the annotation file.
    pub category_id: u64,
    /// `x, y, width, height` in pixels.
    pub bbox: [f32; 4],
    /// Score in `0..=1`.
    pub score: f32,
    /// Mask.
    pub segmentation: RleRecord,
    /// Picture file, where the picture has no COCO id of its own.
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

/// Detections of a picture in COCO's results format; `file` is for pictures outside a data set.
pub fn detections_json(
    image_id: u64,
    file: Option<&Path>,
    detections: &[Detection],
    classes: &Classes,
) -> Vec<DetectionRecord> {
    let file_name = file.map(|path| path.display().to_string());
    let record = |detection: &Detection| {
        let [x1, y1, x2, y2] = detection.bbox;
        DetectionRecord {
            image_id,
            category_id: classes.category_id(detection.label).unwrap_or_default(),
            bbox: [x1, y1, x2 - x1, y2 - y1],
            score: detection.score,
            segmentation: RleRecord::new(&detection.mask),
            file_name: file_name.clone(),
        }
    };
    detections.iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_becomes_null_outside_strings_only() {
        let text = r#"{"a": NaN, "NaN \" Infinity": [-Infinity, 1]}"#;
        assert_eq!(
            without_nan(text),
            r#"{"a": null, "NaN \" Infinity": [null, 1]}"#
        );
    }
}
