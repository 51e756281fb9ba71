//! Repair of a COCO dataset, as a copy in a new folder.

use super::spec::{ImportError, Imported};
use super::writer::{Category, Mask, Object, Writer};
use crate::data::images::check_images;
use crate::data::problem::{Problem, Severity};
use crate::data::reader::read_repaired;
use crate::data::splits::find_splits_in;
use std::collections::HashSet;
use std::path::Path;

/// A split of the copy, with changes (warnings) and omissions (errors).
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The split.
    pub split: Imported,
    /// Every change.
    pub changes: Vec<Problem>,
}

/// Writes a repaired copy of the dataset in `dir` to the new folder `out`: boxes that contradict their masks are
/// computed from the masks, row-major RLE is transposed, normalized coordinates are scaled, ids and names are
/// corrected, and crowds become single objects if a split has nothing else. Anything without a certain meaning is left
/// out. Masks are written as RLE. The original is not changed.
pub fn repair(dir: &Path, images: Option<&Path>, out: &Path) -> Result<Vec<Repaired>, ImportError> {
    let fault = |error: crate::data::DataError| ImportError::Source {
        path: dir.display().to_string(),
        reason: error.to_string(),
    };
    let mut repaired = Vec::new();
    for split in find_splits_in(dir, images).map_err(fault)? {
        let (dataset, mut changes) = read_repaired(&split).map_err(fault)?;
        let of_images = check_images(&dataset.samples);
        let errors = of_images.iter().filter(|p| p.severity == Severity::Error);
        let broken: HashSet<u64> = errors.filter_map(|p| p.image_id).collect();
        changes.extend(
            of_images
                .into_iter()
                .filter(|p| p.severity == Severity::Error),
        );
        let only_crowds = dataset.objects() == 0;
        let mut writer = Writer::new(out, &split.name)?;
        for sample in dataset
            .samples
            .iter()
            .filter(|s| !broken.contains(&s.image_id))
        {
            let size = (sample.width, sample.height);
            let image_id = writer.link(&sample.path, Some(sample.image_id), size)?;
            for instance in &sample.instances {
                let [x1, y1, x2, y2] = instance.bbox.map(f64::from);
                writer.object(Object {
                    id: 0,
                    image_id,
                    category_id: dataset
                        .classes
                        .category_id(instance.label)
                        .unwrap_or_default(),
                    bbox: [x1, y1, x2 - x1, y2 - y1],
                    area: instance.area,
                    iscrowd: u8::from(instance.is_crowd && !only_crowds),
                    segmentation: Mask::rle(&instance.mask),
                });
            }
        }
        if only_crowds
            && dataset
                .samples
                .iter()
                .any(|sample| !sample.instances.is_empty())
        {
            changes.push(Problem {
                severity: Severity::Warning,
                file: split.annotations.clone(),
                image_id: None,
                annotation_id: None,
                kind: "only crowds",
                reason: "all objects were crowds (iscrowd=1)".into(),
                fix: "they are single objects now".into(),
            });
        }
        let names = dataset.classes.ids.iter().zip(&dataset.classes.names);
        let categories: Vec<Category> = names
            .map(|(&id, name)| Category {
                id,
                name: name.clone(),
            })
            .collect();
        repaired.push(Repaired {
            split: writer.finish(&categories)?,
            changes,
        });
    }
    Ok(repaired)
}
