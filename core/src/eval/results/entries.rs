//! Annotations and results of known images and classes.

use super::input::Input;
use crate::data::entries::numbers;
use crate::data::json::{Counts, Field, Numbers, RawSegmentation};
use crate::data::raw::RawAnnotation;
use crate::data::segmentation::mask;
use hotcoco::{Annotation, Segmentation};
use std::collections::{HashMap, HashSet};

/// An annotation or a result of a known image and class, with a valid mask if it has one.
pub(super) fn annotation(
    raw: RawAnnotation,
    sizes: &HashMap<u64, (u32, u32)>,
    classes: &HashSet<u64>,
    input: &Input,
) -> Result<Annotation, String> {
    let image_id = raw.image_id.required("image_id")?.0;
    let category_id = raw.category_id.required("category_id")?.0;
    let Some(&(width, height)) = sizes.get(&image_id) else {
        return Err(format!(
            "image id {image_id} does not exist in the ground truth"
        ));
    };
    if !classes.is_empty() && !classes.contains(&category_id) {
        let mut known: Vec<u64> = classes.iter().copied().collect();
        known.sort_unstable();
        let known: Vec<String> = known.iter().take(8).map(u64::to_string).collect();
        return Err(format!(
            "image {image_id}: category id {category_id} does not exist in the ground truth (ids: {})",
            known.join(", ")
        ));
    }
    let fault =
        |fault: crate::data::segmentation::Fault| format!("image {image_id}: {}", fault.reason);
    let bbox = numbers(&raw.bbox).map_err(fault)?;
    if raw.segmentation != RawSegmentation::Missing {
        if width == 0 || height == 0 {
            return Err(format!(
                "image {image_id} has no width and height in the ground truth"
            ));
        }
        input
            .charge_drawing(&raw.segmentation, (width, height))
            .map_err(|reason| format!("image {image_id}: {reason}"))?;
        let drawn = mask(&raw.segmentation, height, width).map_err(fault)?;
        input.charge_mask(&drawn.mask)?;
    }
    Ok(Annotation {
        image_id,
        category_id,
        bbox,
        area: raw
            .area
            .optional("area")?
            .map(|area| area.0)
            .filter(|area| area.is_finite()),
        iscrowd: raw
            .iscrowd
            .optional("iscrowd")?
            .is_some_and(|crowd| crowd.0),
        segmentation: segmentation(raw.segmentation),
        score: raw.score.value().map(|score| score.0),
        ..Default::default()
    })
}

fn segmentation(raw: RawSegmentation) -> Option<Segmentation> {
    let size = |size: Field<Numbers>| {
        let numbers = size.value().map(|numbers| numbers.0).unwrap_or_default();
        <[f64; 2]>::try_from(numbers)
            .ok()
            .map(|size| size.map(|side| side as u32))
    };
    match raw {
        RawSegmentation::Polygons(mut polygons) => {
            polygons.retain(|polygon| polygon.len() >= 6);
            Some(Segmentation::Polygon(polygons))
        }
        RawSegmentation::Rle {
            size: sides,
            counts: Counts::Compressed(counts),
        } => Some(Segmentation::CompressedRle {
            size: size(sides)?,
            counts,
        }),
        RawSegmentation::Rle {
            size: sides,
            counts: Counts::Runs(counts),
        } => Some(Segmentation::UncompressedRle {
            size: size(sides)?,
            counts,
        }),
        _ => None,
    }
}
