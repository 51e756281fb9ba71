//! Reading a split: every annotation is checked, what is bad is left out and named.

use super::check::{Problem, Severity};
use super::classes::Classes;
use super::coco::{self, CocoAnnotation, CocoCategory, CocoImage};
use super::dataset::{DataError, Dataset, Instance, Sample};
use super::segmentation;
use super::splits::Split;
use crate::boxes::Bbox;
use std::collections::{HashMap, HashSet};

/// Reads a split, leaving out what is bad; every problem found without decoding a picture.
pub(super) fn read_split(split: &Split) -> Result<(Dataset, Vec<Problem>), DataError> {
    let path = &split.annotations;
    let text = std::fs::read_to_string(path).map_err(|source| DataError::Io {
        path: path.clone(),
        source,
    })?;
    let file = coco::parse(&text).map_err(|reason| DataError::Json {
        path: path.clone(),
        reason,
    })?;
    let mut reader = Reader {
        split,
        problems: Vec::new(),
    };
    let classes = reader.classes(file.categories);
    let mut samples = reader.samples(file.images);
    reader.instances(file.annotations, &classes, &mut samples);
    let dataset = Dataset {
        annotations: path.clone(),
        classes,
        samples,
    };
    Ok((dataset, reader.problems))
}

struct Reader<'a> {
    split: &'a Split,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn error(&mut self, image: Option<u64>, annotation: Option<u64>, reason: String, fix: &str) {
        self.report(Severity::Error, image, annotation, reason, fix);
    }

    fn report(
        &mut self,
        severity: Severity,
        image_id: Option<u64>,
        annotation_id: Option<u64>,
        reason: String,
        fix: &str,
    ) {
        let file = self.split.annotations.clone();
        let fix = fix.to_string();
        self.problems.push(Problem {
            severity,
            file,
            image_id,
            annotation_id,
            reason,
            fix,
        });
    }

    fn classes(&mut self, mut categories: Vec<CocoCategory>) -> Classes {
        categories.sort_by_key(|category| category.id);
        let mut classes = Classes::default();
        for category in categories {
            if classes.ids.last() == Some(&category.id) {
                let reason = format!("category id {} is used twice", category.id);
                self.error(None, None, reason, "give every category an id of its own");
            } else {
                classes.ids.push(category.id);
                classes.names.push(category.name);
            }
        }
        classes
    }

    fn samples(&mut self, images: Vec<CocoImage>) -> Vec<Sample> {
        let mut seen = HashSet::new();
        let mut samples = Vec::with_capacity(images.len());
        for image in images {
            let id = Some(image.id);
            let path = self.split.images.join(&image.file_name);
            if !seen.insert(image.id) {
                let reason = format!("image id {} is used twice", image.id);
                self.error(id, None, reason, "give every image an id of its own");
            } else if image.width == 0 || image.height == 0 {
                let reason = format!("image size is {}x{}", image.width, image.height);
                self.error(id, None, reason, "write the picture's width and height");
            } else if !path.is_file() {
                let reason = format!("{} is missing", path.display());
                self.error(
                    id,
                    None,
                    reason,
                    "put the file there or delete the image entry",
                );
            } else {
                let CocoImage {
                    id: image_id,
                    width,
                    height,
                    ..
                } = image;
                samples.push(Sample::new(image_id, path, (width, height), Vec::new()));
            }
        }
        samples
    }

    fn instances(
        &mut self,
        annotations: Vec<CocoAnnotation>,
        classes: &Classes,
        samples: &mut [Sample],
    ) {
        let by_id: HashMap<u64, usize> = samples
            .iter()
            .enumerate()
            .map(|(index, s)| (s.image_id, index))
            .collect();
        let dropped: HashSet<u64> = self.problems.iter().filter_map(|p| p.image_id).collect();
        let mut seen = HashSet::new();
        for annotation in annotations {
            let (image, id) = (annotation.image_id, annotation.id);
            let Some(&index) = by_id.get(&image) else {
                if !dropped.contains(&image) {
                    let reason = format!("image id {image} does not exist");
                    self.error(
                        Some(image),
                        Some(id),
                        reason,
                        "correct image_id or delete it",
                    );
                }
                continue;
            };
            if !seen.insert(id) {
                let reason = format!("annotation id {id} is used twice");
                self.error(
                    Some(image),
                    Some(id),
                    reason,
                    "give every annotation its own id",
                );
                continue;
            }
            match self.instance(&annotation, classes, &samples[index]) {
                Ok(instance) => samples[index].instances.push(instance),
                Err((reason, fix)) => self.error(Some(image), Some(id), reason, fix),
            }
        }
    }

    fn instance(
        &mut self,
        annotation: &CocoAnnotation,
        classes: &Classes,
        sample: &Sample,
    ) -> Result<Instance, (String, &'static str)> {
        let category = annotation.category_id;
        let label = classes.label_of(category).ok_or_else(|| {
            let known: Vec<String> = classes.ids.iter().take(8).map(u64::to_string).collect();
            let reason = format!(
                "category id {category} does not exist (ids: {})",
                known.join(", ")
            );
            (reason, "correct category_id or add the category")
        })?;
        let segmentation = annotation.segmentation.as_ref().ok_or_else(|| {
            (
                "there is no segmentation".to_string(),
                "add polygons or RLE, or delete it",
            )
        })?;
        let mask = segmentation::mask(segmentation, sample.height, sample.width)?;
        let bbox = match &annotation.bbox {
            Some(numbers) => self.annotated_box(numbers, annotation, sample)?,
            None => {
                let [x, y, w, h] = mask.bbox().map(|v| v as f32);
                [x, y, x + w, y + h]
            }
        };
        if mask.area() == 0 {
            return Err((
                "the mask has no pixel".into(),
                "redraw it or delete the annotation",
            ));
        }
        let area = annotation.area.filter(|area| area.is_finite());
        Ok(Instance {
            annotation_id: annotation.id,
            label,
            bbox,
            area: area.unwrap_or(mask.area() as f64),
            mask,
            crowd: annotation.iscrowd != 0,
        })
    }

    /// `x, y, width, height` -> corners within the picture.
    fn annotated_box(
        &mut self,
        numbers: &[Option<f64>],
        annotation: &CocoAnnotation,
        sample: &Sample,
    ) -> Result<Bbox, (String, &'static str)> {
        let finite: Option<Vec<f64>> = numbers
            .iter()
            .map(|v| v.filter(|v| v.is_finite()))
            .collect();
        let Some([x, y, w, h]) = finite.as_deref().and_then(|v| <[f64; 4]>::try_from(v).ok())
        else {
            let reason = "the box is not four finite numbers".to_string();
            return Err((reason, "write bbox as [x, y, width, height]"));
        };
        let (width, height) = (sample.width as f64, sample.height as f64);
        let shown = format!("box [{x}, {y}, {w}, {h}]");
        if w <= 0.0 || h <= 0.0 {
            return Err((
                format!("{shown} has no area"),
                "redraw it or delete the annotation",
            ));
        }
        if x >= width || y >= height || x + w <= 0.0 || y + h <= 0.0 {
            let reason = format!("{shown} lies outside the {width}x{height} picture");
            return Err((reason, "correct it or delete the annotation"));
        }
        if x < -1.0 || y < -1.0 || x + w > width + 1.0 || y + h > height + 1.0 {
            let reason = format!("{shown} reaches over the {width}x{height} picture");
            let (image, id) = (Some(sample.image_id), Some(annotation.id));
            self.report(
                Severity::Warning,
                image,
                id,
                reason,
                "it is clipped to the picture",
            );
        }
        Ok([
            x.clamp(0.0, width) as f32,
            y.clamp(0.0, height) as f32,
            (x + w).clamp(0.0, width) as f32,
            (y + h).clamp(0.0, height) as f32,
        ])
    }
}
