//! A dataset: images with their instances, and classes mapped from the file.

use super::classes::Classes;
use super::problem::{Problem, Severity, summarized};
use super::reader::read_split;
use super::source::Origin;
use super::splits::{Split, find_split};
use crate::boxes::Bbox;
use crate::config::{Depth, OnProblem};
use std::path::{Path, PathBuf};
use thiserror::Error;
use vernier_mask::Rle;

/// Why a dataset cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file is JSON of another tool.
    #[error("{path}: {advice}")]
    NotCoco {
        /// The file.
        path: PathBuf,
        /// What it is and what to do.
        advice: String,
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
        "{dir}: no COCO annotations; looked for annotations/instances_SPLIT*.json, \
         SPLIT/_annotations.coco.json, SPLIT/annotations.json, annotations_SPLIT.json, SPLIT.json, \
         annotations.json and result.json; other formats are converted with `mrcnn-cli dataset convert`"
    )]
    NotFound {
        /// The folder.
        dir: PathBuf,
    },
    /// There are splits, but not the one that is wanted.
    #[error("{dir}: no split `{wanted}`; there are {known}: set data.train, data.val or --split")]
    NoSplit {
        /// The folder.
        dir: PathBuf,
        /// The split that is wanted.
        wanted: String,
        /// The splits that exist.
        known: String,
    },
    /// Several JSON files whose names say nothing.
    #[error(
        "{dir}: which of {} holds the annotations? Give one with --data FILE (and --set data.images=DIR)",
        listed(files)
    )]
    Unnamed {
        /// The folder.
        dir: PathBuf,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// There is nothing to learn from.
    #[error("{path}: {reason}")]
    NothingToLearn {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The validation split has classes that the training split lacks.
    #[error(
        "{path}: the training split has no class {missing} (it has {known}): name the classes alike in both, \
         or leave these objects out"
    )]
    OtherClasses {
        /// The validation split's annotations.
        path: PathBuf,
        /// Its classes that are unknown.
        missing: String,
        /// The training split's classes.
        known: String,
    },
    /// No validation split, and no permission to make one.
    #[error(
        "{path}: there is no split `{val}` to evaluate on: set data.val_fraction (such as 0.1) to hold images \
         out, or data.val = \"{train}\" to evaluate on the training images"
    )]
    NoValidation {
        /// The training split's annotations.
        path: PathBuf,
        /// The split that was wanted.
        val: String,
        /// The training split.
        train: String,
    },
    /// Several annotation files fit a split.
    #[error(
        "split `{split}` could be any of {}: ask for one by its whole name, or move the others away",
        listed(files)
    )]
    Ambiguous {
        /// The name that was asked for.
        split: String,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Bad annotations while `data.on_problem` is `refuse`.
    #[error(
        "{path}: {count} bad annotations or images, e.g.\n{first}\nsee all with `mrcnn-cli dataset \
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
    #[error("{path}: no usable image")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl DataError {
    /// The refusal of a dataset with `problems`, the first few named.
    pub(crate) fn refused(path: &Path, problems: &[Problem]) -> Self {
        // One of each kind says more than three of the same.
        let first: Vec<String> = summarized(problems).into_iter().take(3).collect();
        Self::Problems {
            path: path.into(),
            count: problems.len(),
            first: first.join("\n"),
        }
    }
}

fn listed(files: &[PathBuf]) -> String {
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    files.join(", ")
}

/// One object of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Id in the annotation file.
    pub annotation_id: u64,
    /// Class, `1..=K`.
    pub label: usize,
    /// Corners in pixels of the original image.
    pub bbox: Bbox,
    /// Mask over the whole image.
    pub mask: Rle,
    /// Area in square pixels, as annotated.
    pub area: f64,
    /// A group that is not labelled one by one: no training target, ignored in evaluation.
    pub crowd: bool,
}

/// One image and its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Id in the annotation file.
    pub image_id: u64,
    /// The file, or the name that stands for it in messages.
    pub path: PathBuf,
    /// The name in the annotation file.
    pub file_name: String,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Objects, crowds among them.
    pub instances: Vec<Instance>,
    /// Where [`Sample::image`] gets the pixels.
    pub origin: Origin,
    /// How 16-bit files become 8 bits.
    pub depth: Depth,
}

/// An image that is left out of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// Id in the annotation file.
    pub image_id: u64,
    /// The file; empty where the entry has none.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// A split of a dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The annotation file, or the name of the source.
    pub annotations: PathBuf,
    /// The part of the file that this is, where it is not the whole.
    pub part: Option<String>,
    /// Its classes.
    pub classes: Classes,
    /// Its images in the order of the file.
    pub samples: Vec<Sample>,
    /// Images that are left out because of `on_problem = "skip"`.
    pub left_out: Vec<LeftOut>,
}

impl Dataset {
    /// Opens the split `name` of the dataset in `dir`; the problems are those left out.
    pub fn open(
        dir: &Path,
        name: &str,
        on_problem: OnProblem,
    ) -> Result<(Self, Vec<Problem>), DataError> {
        Self::open_files(&find_split(dir, name)?, on_problem)
    }

    /// Opens a split whose files are known.
    pub fn open_files(
        split: &Split,
        on_problem: OnProblem,
    ) -> Result<(Self, Vec<Problem>), DataError> {
        let (dataset, problems) = read_split(split)?;
        let errors: Vec<Problem> = problems
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .cloned()
            .collect();
        if on_problem == OnProblem::Refuse && !errors.is_empty() {
            return Err(DataError::refused(&split.annotations, &errors));
        }
        if dataset.samples.is_empty() {
            return Err(DataError::Empty {
                path: split.annotations.clone(),
            });
        }
        Ok((dataset, problems))
    }

    /// The annotation file, with the part that this is and the number of images that are left out.
    pub fn description(&self) -> String {
        let mut text = self.annotations.display().to_string();
        if let Some(part) = &self.part {
            text.push_str(&format!(", {part}"));
        }
        if !self.left_out.is_empty() {
            const NAMED: usize = 5;
            let name = |image: &LeftOut| match image.path.file_name() {
                Some(name) => name.to_string_lossy().into_owned(),
                None => format!("image {}", image.image_id),
            };
            let mut names: Vec<String> = self.left_out.iter().take(NAMED).map(name).collect();
            if self.left_out.len() > NAMED {
                names.push("...".into());
            }
            let names = names.join(", ");
            text.push_str(&format!(
                " ({} images left out: {names})",
                self.left_out.len()
            ));
        }
        text
    }

    /// Sets how 16-bit files become 8 bits.
    pub fn set_depth(&mut self, depth: Depth) {
        self.samples
            .iter_mut()
            .for_each(|sample| sample.depth = depth);
    }

    /// Number of objects that are not crowds.
    pub(crate) fn objects(&self) -> usize {
        let instances = self.samples.iter().flat_map(|sample| &sample.instances);
        instances.filter(|instance| !instance.crowd).count()
    }
}
