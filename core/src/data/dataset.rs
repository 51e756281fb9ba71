//! A data set: pictures with their instances, classes mapped from the file.

use super::check::{Problem, Severity};
use super::coco::{self, CocoAnnotation, CocoCategory, CocoImage};
use super::segmentation;
use crate::boxes::Bbox;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use thiserror::Error;
use vernier_mask::Rle;

/// What happens to a bad annotation or picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnProblem {
    /// Nothing is trained until it is mended.
    #[default]
    Refuse,
    /// It is left out and reported.
    Skip,
}

/// Why a data set cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The annotation file is not COCO JSON.
    #[error("{path}: {reason}; is the file complete, and COCO instances JSON?")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// No annotation file was found.
    #[error(
        "{dir}: no COCO annotations{wanted}; looked for annotations/instances_SPLIT*.json, \
         SPLIT/_annotations.coco.json, annotations_SPLIT.json, SPLIT.json and annotations.json"
    )]
    NotFound {
        /// The folder.
        dir: PathBuf,
        /// The split, if one was asked for.
        wanted: String,
    },
    /// Bad annotations, and `data.on_problem` is `refuse`.
    #[error(
        "{path}: {count} bad annotations or pictures, e.g.\n{first}\nsee all with `mrcnn-cli dataset \
         check DIR`, or leave them out with --set data.on_problem=skip"
    )]
    Problems {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first few, one a line.
        first: String,
    },
    /// Nothing to train on.
    #[error("{path}: no usable picture")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The classes of a data set: labels `1..=len` for its category ids, in ascending order of the ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    /// Name of label `i + 1`.
    pub names: Vec<String>,
    /// Category id of label `i + 1`.
    pub ids: Vec<u64>,
}

impl Classes {
    /// The label of a category id.
    pub fn label_of(&self, category_id: u64) -> Option<usize> {
        self.ids.iter().position(|&id| id == category_id).map(|index| index + 1)
    }

    /// The name of a label; `background` for 0, `class N` where there is none.
    pub fn name(&self, label: usize) -> String {
        match label.checked_sub(1) {
            None => "background".into(),
            Some(index) => self.names.get(index).cloned().unwrap_or(format!("class {label}")),
        }
    }

    /// The category id of a label.
    pub fn category_id(&self, label: usize) -> Option<u64> {
        label.checked_sub(1).and_then(|index| self.ids.get(index).copied())
    }

    /// Number of classes without the background.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// One object of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Id in the annotation file.
    pub annotation_id: u64,
    /// Class, `1..=K`.
    pub label: usize,
    /// Pixels of the original picture.
    pub bbox: Bbox,
    /// Mask over the whole picture.
    pub mask: Rle,
    /// Area in square pixels, as annotated.
    pub area: f64,
    /// A group that is not labelled one by one: no training target, ignored in evaluation.
    pub crowd: bool,
}

/// One picture and its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Id in the annotation file.
    pub image_id: u64,
    /// The file.
    pub path: PathBuf,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Objects, crowds among them.
    pub instances: Vec<Instance>,
}

/// A split of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Where it was read from.
    pub annotations: PathBuf,
    /// Its classes.
    pub classes: Classes,
    /// Its pictures in the order of the file.
    pub samples: Vec<Sample>,
}

/// Where a split's files are.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// `train`, `val`, ...
    pub name: String,
    /// The annotation file.
    pub annotations: PathBuf,
    /// Folder of the pictures.
    pub images: PathBuf,
}

impl Dataset {
    /// Opens the split `name` of the data set in `dir`; the problems are those left out.
    pub fn open(
        dir: &Path,
        name: &str,
        on_problem: OnProblem,
    ) -> Result<(Self, Vec<Problem>), DataError> {
        let split = find_splits(dir)?
            .into_iter()
            .find(|split| split.name == name || split.name == "all")
            .ok_or_else(|| DataError::NotFound {
                dir: dir.into(),
                wanted: format!(" for split `{name}`"),
            })?;
        let (dataset, problems) = read_split(&split)?;
        let errors: Vec<&Problem> =
            problems.iter().filter(|p| p.severity == Severity::Error).collect();
        if on_problem == OnProblem::Refuse && !errors.is_empty() {
            let first: Vec<String> = errors.iter().take(3).map(|p| p.to_string()).collect();
            return Err(DataError::Problems {
                path: split.annotations,
                count: errors.len(),
                first: first.join("\n"),
            });
        }
        if dataset.samples.is_empty() {
            return Err(DataError::Empty { path: split.annotations });
        }
        Ok((dataset, problems))
    }
}

/// Every split in a folder, by the common layouts; a JSON file is a split of its own.
pub fn find_splits(dir: &Path) -> Result<Vec<Split>, DataError> {
    let io_error = |source| DataError::Io { path: dir.into(), source };
    let mut splits = Vec::new();
    let mut candidates: Vec<PathBuf> = Vec::new();
    for folder in [dir.to_path_buf(), dir.join("annotations")] {
        if folder.is_dir() {
            let entries = std::fs::read_dir(&folder).map_err(io_error)?;
            candidates.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
        }
    }
    if !dir.is_dir() {
        std::fs::metadata(dir).map_err(io_error)?;
    }
    candidates.sort();
    for path in candidates {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_string();
        let roboflow = path.join("_annotations.coco.json");
        if roboflow.is_file() {
            splits.push(Split { name: stem, annotations: roboflow, images: path });
        } else if path.extension().is_some_and(|e| e == "json")
            && let Some(name) = split_name(&stem)
        {
            let images = image_folder(dir, &name, &stem);
            splits.push(Split { name, annotations: path, images });
        }
    }
    if splits.is_empty() {
        return Err(DataError::NotFound { dir: dir.into(), wanted: String::new() });
    }
    Ok(splits)
}

/// `instances_train2017` -> `train`, `annotations_val` -> `val`, `annotations` -> `all`.
fn split_name(stem: &str) -> Option<String> {
    let rest = ["instances", "annotations"].iter().find_map(|prefix| stem.strip_prefix(prefix));
    let name = match rest {
        Some(rest) => rest.trim_start_matches('_'),
        None if ["train", "val", "valid", "test"].contains(&stem) => stem,
        None => return None,
    };
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some(if name.is_empty() { "all".into() } else { name.into() })
}

fn image_folder(dir: &Path, name: &str, stem: &str) -> PathBuf {
    let full = stem.rsplit('_').next().unwrap_or(name);
    let choices = [dir.join(full), dir.join("images").join(full), dir.join(name)];
    let found = choices.into_iter().find(|path| path.is_dir());
    found.unwrap_or_else(|| if dir.join("images").is_dir() { dir.join("images") } else { dir.into() })
}

/// Reads a split, leaving out what is bad; every problem found without decoding a picture.
pub(super) fn read_split(split: &Split) -> Result<(Dataset, Vec<Problem>), DataError> {
    let path = &split.annotations;
    let text = std::fs::read_to_string(path)
        .map_err(|source| DataError::Io { path: path.clone(), source })?;
    let file = coco::parse(&text)
        .map_err(|reason| DataError::Json { path: path.clone(), reason })?;
    let mut reader = Reader { split, problems: Vec::new() };
    let classes = reader.classes(file.categories);
    let mut samples = reader.samples(file.images);
    reader.instances(file.annotations, &classes, &mut samples);
    let dataset = Dataset { annotations: path.clone(), classes, samples };
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
        self.problems.push(Problem { severity, file, image_id, annotation_id, reason, fix });
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
                self.error(id, None, reason, "put the file there or delete the image entry");
            } else {
                let CocoImage { id: image_id, width, height, .. } = image;
                samples.push(Sample { image_id, path, width, height, instances: Vec::new() });
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
        let by_id: HashMap<u64, usize> =
            samples.iter().enumerate().map(|(index, s)| (s.image_id, index)).collect();
        let dropped: HashSet<u64> = self.problems.iter().filter_map(|p| p.image_id).collect();
        let mut seen = HashSet::new();
        for annotation in annotations {
            let (image, id) = (annotation.image_id, annotation.id);
            let Some(&index) = by_id.get(&image) else {
                if !dropped.contains(&image) {
                    let reason = format!("image id {image} does not exist");
                    self.error(Some(image), Some(id), reason, "correct image_id or delete it");
                }
                continue;
            };
            if !seen.insert(id) {
                let reason = format!("annotation id {id} is used twice");
                self.error(Some(image), Some(id), reason, "give every annotation its own id");
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
            let reason = format!("category id {category} does not exist (ids: {})", known.join(", "));
            (reason, "correct category_id or add the category")
        })?;
        let segmentation = annotation.segmentation.as_ref().ok_or_else(|| {
            ("there is no segmentation".to_string(), "add polygons or RLE, or delete it")
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
            return Err(("the mask has no pixel".into(), "redraw it or delete the annotation"));
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
        let finite: Option<Vec<f64>> =
            numbers.iter().map(|v| v.filter(|v| v.is_finite())).collect();
        let Some([x, y, w, h]) = finite.as_deref().and_then(|v| <[f64; 4]>::try_from(v).ok())
        else {
            let reason = "the box is not four finite numbers".to_string();
            return Err((reason, "write bbox as [x, y, width, height]"));
        };
        let (width, height) = (sample.width as f64, sample.height as f64);
        let shown = format!("box [{x}, {y}, {w}, {h}]");
        if w <= 0.0 || h <= 0.0 {
            return Err((format!("{shown} has no area"), "redraw it or delete the annotation"));
        }
        if x >= width || y >= height || x + w <= 0.0 || y + h <= 0.0 {
            let reason = format!("{shown} lies outside the {width}x{height} picture");
            return Err((reason, "correct it or delete the annotation"));
        }
        if x < -1.0 || y < -1.0 || x + w > width + 1.0 || y + h > height + 1.0 {
            let reason = format!("{shown} reaches over the {width}x{height} picture");
            let (image, id) = (Some(sample.image_id), Some(annotation.id));
            self.report(Severity::Warning, image, id, reason, "it is clipped to the picture");
        }
        Ok([
            x.clamp(0.0, width) as f32,
            y.clamp(0.0, height) as f32,
            (x + w).clamp(0.0, width) as f32,
            (y + h).clamp(0.0, height) as f32,
        ])
    }
}
