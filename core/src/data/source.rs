//! Custom datasets: images and objects from any source.

use super::classes::Classes;
use super::dataset::{Dataset, DatasetSource, Instance, Origin, Sample, SourceError};
use super::error::DataError;
use super::problem::{Problem, Severity};
use crate::boxes::Bbox;
use crate::config::{Depth, OnProblem};
use crate::image::decode::{DecodeError, Decoded, decode_quick, decode_with};
use ::image::RgbImage;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vernier_mask::Rle;

impl DatasetSource for Dataset {
    fn name(&self) -> String {
        self.annotations.display().to_string()
    }

    fn classes(&self) -> Classes {
        self.classes.clone()
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SourceError> {
        Ok(self.samples[index].clone())
    }

    fn image(&self, index: usize) -> Result<RgbImage, SourceError> {
        Ok(self.samples[index].image()?)
    }
}

impl Sample {
    /// An image of `width x height` pixels with its objects; `name` is its file, or another name for
    /// messages. Ids must be unique within a dataset.
    pub fn new(
        image_id: u64,
        name: impl Into<PathBuf>,
        (width, height): (u32, u32),
        instances: Vec<Instance>,
    ) -> Self {
        let path = name.into();
        Self {
            image_id,
            file_name: path.display().to_string(),
            path,
            width,
            height,
            instances,
            origin: Origin::File,
            depth: Depth::Full,
        }
    }

    /// Reads and decodes the image, from its file or its source.
    pub fn image(&self) -> Result<RgbImage, DecodeError> {
        Ok(self.decoded(decode_quick)?.image)
    }

    /// As [`Self::image`], with metadata of the file, and a check that no part of it is missing.
    pub(crate) fn checked_image(&self) -> Result<Decoded, DecodeError> {
        self.decoded(|path, depth| decode_with(path, depth))
    }

    fn decoded(
        &self,
        decode: fn(&Path, Depth) -> Result<Decoded, DecodeError>,
    ) -> Result<Decoded, DecodeError> {
        let (path, depth) = (&self.path, self.depth);
        // A panic in one image must not affect the other images of its thread.
        match &self.origin {
            Origin::File => catch_unwind(|| decode(path, depth)).unwrap_or_else(|_| {
                let reason = "its decoder panicked".into();
                Err(DecodeError::Format {
                    path: path.clone(),
                    reason,
                })
            }),
            Origin::Source(source, index) => {
                let image = catch_unwind(AssertUnwindSafe(|| source.image(*index)));
                let image = image.unwrap_or_else(|_| Err("it panicked".into()));
                let image = image.map_err(|error| DecodeError::Source {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
                Ok(Decoded {
                    image,
                    orientation: 1,
                    used_bits: None,
                    has_more: false,
                })
            }
        }
    }
}

impl Instance {
    /// An object of class `label` (`1..=K`) whose box is the bounding box of its mask. The mask covers
    /// the whole image and must have at least one pixel.
    pub fn new(label: usize, mask: Rle) -> Self {
        let [x, y, w, h] = mask.bbox().map(|v| v as f32);
        Self {
            annotation_id: 0,
            label,
            bbox: [x, y, x + w, y + h],
            area: mask.area() as f64,
            mask,
            is_crowd: false,
        }
    }
}

impl Dataset {
    /// Reads the samples of a source and checks them like those of COCO files; the problems are what was
    /// left out. Objects without an annotation id get one.
    pub fn from_source(
        source: Arc<dyn DatasetSource>,
        on_problem: OnProblem,
    ) -> Result<(Self, Vec<Problem>), DataError> {
        let annotations = PathBuf::from(source.name());
        let mut dataset = Self {
            classes: source.classes(),
            annotations,
            samples: Vec::with_capacity(source.len()),
            ..Self::default()
        };
        let (mut problems, mut ids) = (Vec::new(), HashSet::new());
        let mut next_annotation = 1;
        for index in 0..source.len() {
            let checked = source.sample(index).map_err(|error| error.to_string());
            let mut sample = match checked.and_then(|sample| checked_size(sample, &mut ids)) {
                Ok(sample) => sample,
                Err(reason) => {
                    let name = format!("{}, image {index}", dataset.annotations.display());
                    problems.push(problem(Path::new(&name), None, None, reason));
                    continue;
                }
            };
            let (width, height) = (sample.width, sample.height);
            sample.origin = Origin::Source(source.clone(), index);
            for mut instance in std::mem::take(&mut sample.instances) {
                let fault = clipped(instance.bbox, width, height).and_then(|bbox| {
                    instance.bbox = bbox;
                    fault(&instance, &dataset.classes, (width, height)).map_or(Ok(()), Err)
                });
                if instance.annotation_id == 0 {
                    instance.annotation_id = next_annotation;
                }
                next_annotation = next_annotation.max(instance.annotation_id) + 1;
                let (image, id) = (sample.image_id, instance.annotation_id);
                match fault {
                    Ok(()) => sample.instances.push(instance),
                    Err(reason) => {
                        problems.push(problem(&sample.path, Some(image), Some(id), reason))
                    }
                }
            }
            dataset.samples.push(sample);
        }
        if on_problem == OnProblem::Refuse && !problems.is_empty() {
            return Err(DataError::refused(&dataset.annotations, &problems));
        }
        if dataset.samples.is_empty() {
            let path = dataset.annotations;
            return Err(DataError::Empty { path });
        }
        Ok((dataset, problems))
    }
}

fn checked_size(sample: Sample, ids: &mut HashSet<u64>) -> Result<Sample, String> {
    if !ids.insert(sample.image_id) {
        return Err(format!("image id {} is used twice", sample.image_id));
    }
    match (sample.width, sample.height) {
        (0, _) | (_, 0) => Err(format!(
            "its size is {}x{} pixels",
            sample.width, sample.height
        )),
        _ => Ok(sample),
    }
}

/// The part of a box within the image, which must have an area.
fn clipped(bbox: Bbox, width: u32, height: u32) -> Result<Bbox, String> {
    let limits = [width, height, width, height].map(|side| side as f32);
    let inside: Bbox = std::array::from_fn(|i| bbox[i].clamp(0.0, limits[i]));
    let [x1, y1, x2, y2] = inside;
    match bbox.iter().all(|v| v.is_finite()) && x1 < x2 && y1 < y2 {
        true => Ok(inside),
        false => Err(format!(
            "the box {bbox:?} has no area within the {width}x{height} image"
        )),
    }
}

/// The fault of an object, apart from its box; `None` if there is none.
fn fault(instance: &Instance, classes: &Classes, (width, height): (u32, u32)) -> Option<String> {
    let Instance { label, mask, .. } = instance;
    if !(1..=classes.len()).contains(label) {
        return Some(format!("label {label} is not in 1..={}", classes.len()));
    }
    if (mask.w, mask.h) != (width, height) {
        let (w, h) = (mask.w, mask.h);
        return Some(format!(
            "the mask is {w}x{h}, the image {width}x{height} pixels"
        ));
    }
    let cells: u64 = mask.counts.iter().map(|&run| u64::from(run)).sum();
    if cells != u64::from(width) * u64::from(height) || mask.area() == 0 {
        return Some("the mask has no pixel, or its runs do not cover the image".into());
    }
    None
}

fn problem(
    file: &Path,
    image_id: Option<u64>,
    annotation_id: Option<u64>,
    reason: String,
) -> Problem {
    Problem {
        severity: Severity::Error,
        file: file.into(),
        image_id,
        annotation_id,
        kind: "source",
        reason,
        fix: "fix the source".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Squares of two classes, with faults if the index is 3 or more.
    struct Squares(usize);

    impl DatasetSource for Squares {
        fn name(&self) -> String {
            "squares".into()
        }

        fn classes(&self) -> Classes {
            Classes {
                names: vec!["small".into(), "large".into()],
                ids: vec![1, 2],
            }
        }

        fn len(&self) -> usize {
            self.0
        }

        fn sample(&self, index: usize) -> Result<Sample, SourceError> {
            let mask = Rle::from_bbox([2.0, 3.0, 5.0, 5.0], 20, 30)?;
            let good = Instance::new(1 + index % 2, mask);
            let (mut bad, id) = (good.clone(), index as u64 + 1);
            match index {
                3 => return Err("the table has no such row".into()),
                4 => bad.label = 3,
                5 => bad.mask = Rle::from_bbox([0.0, 0.0, 5.0, 5.0], 30, 20)?,
                6 => bad.bbox = [40.0, 0.0, 50.0, 5.0],
                7 => bad.bbox[0] = f32::NAN,
                8 => bad.mask = Rle::empty(20, 30),
                9 => return Ok(Sample::new(1, "again", (30, 20), Vec::new())),
                _ => {}
            }
            let name = format!("square {index}");
            Ok(Sample::new(id, name, (30, 20), vec![bad, good]))
        }

        fn image(&self, index: usize) -> Result<RgbImage, SourceError> {
            match index {
                2 => Err("the disk is gone".into()),
                _ => Ok(RgbImage::from_pixel(30, 20, [index as u8; 3].into())),
            }
        }
    }

    #[test]
    fn images_come_from_the_source_and_its_failures_have_its_words() {
        let (dataset, problems) =
            Dataset::from_source(Arc::new(Squares(3)), OnProblem::Refuse).unwrap();
        assert_eq!((dataset.samples.len(), problems.len()), (3, 0));
        let image = dataset.samples[1].image().unwrap();
        assert_eq!(image.get_pixel(0, 0).0, [1; 3]);
        assert_eq!(dataset.samples[0].instances[0].bbox, [2.0, 3.0, 7.0, 8.0]);
        let ids = dataset.samples.iter().flat_map(|s| &s.instances);
        let ids: Vec<u64> = ids.map(|instance| instance.annotation_id).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
        let error = dataset.samples[2].image().unwrap_err().to_string();
        assert!(
            error.contains("square 2") && error.contains("the disk is gone"),
            "{error}"
        );
        // A dataset is a source, so another source can wrap it.
        let wrapped: Arc<dyn DatasetSource> = Arc::new(dataset.clone());
        let (again, _) = Dataset::from_source(wrapped, OnProblem::Refuse).unwrap();
        assert_eq!(again.samples[1].instances, dataset.samples[1].instances);
        assert_eq!(again.samples[1].image().unwrap(), image);
    }

    #[test]
    fn faults_are_named_and_left_out() {
        let (dataset, problems) =
            Dataset::from_source(Arc::new(Squares(10)), OnProblem::Skip).unwrap();
        assert_eq!(dataset.samples.len(), 8);
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let wanted = [
            "image 3: the table has no such row",
            "label 3 is not in 1..=2",
            "the mask is 20x30, the image 30x20",
            "[40.0, 0.0, 50.0, 5.0] has no area",
            "NaN",
            "no pixel",
            "image id 1 is used twice",
        ];
        assert_eq!(text.len(), wanted.len(), "{text:?}");
        for (text, wanted) in text.iter().zip(wanted) {
            assert!(text.contains(wanted), "{text}, wanted {wanted}");
        }
        assert!(dataset.samples[4].instances.len() == 1);
        let refused = Dataset::from_source(Arc::new(Squares(10)), OnProblem::Refuse);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("squares: 7 bad annotations"), "{refused}");
        let empty = Dataset::from_source(Arc::new(Squares(0)), OnProblem::Refuse);
        assert!(matches!(empty, Err(DataError::Empty { .. })));
    }
}
