//! Samples from the image entries of a file: ids, files and sizes.

use super::{Place, Reader};
use crate::data::dataset::{LeftOut, Sample};
use crate::data::json::{Field, Id};
use crate::data::locate::Locator;
use crate::data::problem::Severity;
use crate::data::raw::RawImage;
use crate::data::segmentation::Fault;
use crate::image::decode::{MAX_PIXELS, dimensions};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

impl Reader<'_> {
    /// Assigns an id to an image whose own id is not a number, with a warning.
    fn give_id(&mut self, index: usize, image: &Result<RawImage, String>, reason: String) -> u64 {
        // Beyond the ids that other entries may have.
        let id = self.highest_image + 1;
        self.highest_image = id;
        if let Ok(RawImage {
            id: Field::Bad(shown),
            ..
        }) = image
        {
            self.given.insert(shown.clone(), id);
        }
        let reason = format!("images[{index}]: {reason}");
        self.warn(Fault::new("image id", reason, "it is numbered"));
        id
    }

    pub(super) fn make_samples(&mut self) {
        let ids = self
            .images
            .iter()
            .filter_map(|(_, image)| image.as_ref().ok()?.id.clone().value());
        self.highest_image = ids.map(|id| id.0).max().unwrap_or(0);
        let mut locator = Locator::new(&self.split.images, &self.split.annotations);
        let (mut ids, mut paths) = (HashSet::new(), HashMap::new());
        for (index, image) in std::mem::take(&mut self.images) {
            let own_id = match &image {
                Ok(image) => image.id.clone().required("id"),
                Err(reason) => Err(reason.clone()),
            };
            let id = match own_id {
                Ok(id) => id.0,
                Err(reason) if self.checks.limits.repair => self.give_id(index, &image, reason),
                Err(reason) => {
                    let reason = format!("images[{index}]: {reason}");
                    let fix = "give every image a whole number as id (`dataset check --fix OUT` numbers them)";
                    self.error(Place::default(), Fault::new("image id", reason, fix));
                    continue;
                }
            };
            let place = Place {
                image: Some(id),
                annotation: None,
            };
            if !ids.insert(id) {
                let reason = format!("image id {id} is used twice");
                self.error(
                    place,
                    Fault::new(
                        "image id twice",
                        reason,
                        "give every image an id of its own",
                    ),
                );
                continue;
            }
            let name = image
                .as_ref()
                .ok()
                .and_then(|image| image.file_name.clone().value());
            let entry =
                image.map_err(|reason| Fault::new("image entry", reason, "correct the entry"));
            match entry.and_then(|image| Self::sample(id, image, &mut locator)) {
                Ok(sample) => {
                    if let Some(first) = paths.insert(sample.path.clone(), id) {
                        let reason = format!(
                            "images {first} and {id} are the same file {}",
                            sample.path.display()
                        );
                        let fix = "give one entry all annotations of the file";
                        self.report(
                            Severity::Warning,
                            place,
                            Fault::new("file twice", reason, fix),
                        );
                    }
                    self.samples.push(sample);
                }
                Err(fault) => {
                    self.dropped.insert(id);
                    self.left_out.push(LeftOut {
                        image_id: id,
                        path: name.map_or_else(PathBuf::new, |name| self.split.images.join(name.0)),
                        reason: fault.reason.clone(),
                    });
                    self.error(place, fault);
                }
            }
        }
        for remark in locator.remarks.faults() {
            self.warn(remark);
        }
    }

    fn sample(id: u64, image: RawImage, locator: &mut Locator) -> Result<Sample, Fault> {
        let entry =
            |reason: String| Fault::new("image entry", reason, "correct the entry of the image");
        let name = image.file_name.required("file_name").map_err(entry)?.0;
        let path = locator.find(&name).map_err(|path| {
            let (kind, fix) = match locator.is_ambiguous(&name) {
                true => (
                    "ambiguous file",
                    "write the path of the file relative to the folder of the images",
                ),
                false => (
                    "missing file",
                    "put the file there or delete the image entry",
                ),
            };
            Fault::new(kind, locator.missing(&name, &path), fix)
        })?;
        let side = |field: Field<Id>, name| field.optional(name).map_err(entry);
        let declared = side(image.width, "width")?.zip(side(image.height, "height")?);
        let (width, height) = match declared {
            Some((width, height)) => (width.0, height.0),
            None => {
                let size = dimensions(&path).map_err(|error| entry(error.to_string()))?;
                (size.0.into(), size.1.into())
            }
        };
        let pixels = width.checked_mul(height);
        let fits = pixels.is_some_and(|pixels| (1..=MAX_PIXELS).contains(&pixels));
        let sides = u32::try_from(width).ok().zip(u32::try_from(height).ok());
        let Some(size) = sides.filter(|_| fits) else {
            let reason = match pixels {
                Some(0) => format!("image size is {width}x{height}"),
                _ => format!("image size is {width}x{height}; at most 100 megapixels are read"),
            };
            return Err(Fault::new(
                "image size",
                reason,
                "write the image's width and height",
            ));
        };
        let mut sample = Sample::new(id, path, size, Vec::new());
        sample.file_name = name;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_bytes;
    use crate::data::Severity;
    use crate::data::splits::Split;
    use crate::image::RgbImage;

    /// Absolute names and names with `..` are read as images and nothing else, and are reported.
    #[test]
    fn names_outside_the_folder_are_read_as_images_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::create_dir_all(at.join("data/images")).unwrap();
        RgbImage::new(4, 3).save(at.join("secret.png")).unwrap();
        std::fs::write(at.join("secret.txt"), "password").unwrap();
        let split = Split {
            name: "train".into(),
            annotations: at.join("data/a.json"),
            images: at.join("data/images"),
        };
        let absolute = |name: &str| at.join(name).display().to_string();
        for (names, extension) in [
            ([absolute("secret.png"), "../../secret.png".into()], "png"),
            ([absolute("secret.txt"), "../../secret.txt".into()], "txt"),
        ] {
            for name in names {
                let file = serde_json::json!({"annotations": [], "categories": [{"id": 1, "name": "a"}],
                    "images": [{"id": 1, "file_name": name, "width": 4, "height": 3}]});
                let (dataset, problems) =
                    read_bytes(&split, file.to_string().as_bytes(), false).unwrap();
                let outside = problems
                    .iter()
                    .find(|problem| problem.reason.contains("outside the dataset's folder"));
                let outside = outside.expect(&name);
                assert!(outside.reason.contains(&name), "{}", outside.reason);
                assert_eq!(outside.severity, Severity::Warning);
                let image = dataset.samples.first().map(|sample| sample.image());
                assert_eq!(image.is_some_and(|image| image.is_ok()), extension == "png");
                let is_leaked = problems.iter().any(|p| p.reason.contains("password"));
                assert!(!is_leaked, "the contents of a file");
            }
        }
    }
}
