//! A data set: pictures with their instances, classes mapped from the file.

use super::check::{Problem, Severity};
use super::classes::Classes;
use super::reader::read_split;
use super::source::Origin;
use super::splits::find_split;
use crate::boxes::Bbox;
use serde::{Deserialize, Serialize};
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
    /// Several annotation files are one split's.
    #[error(
        "split `{split}` could be any of {}: ask for one by its whole name, or move the others away",
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Ambiguous {
        /// What was asked for.
        split: String,
        /// What there is.
        files: Vec<PathBuf>,
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

impl DataError {
    /// The refusal of a data set with `problems`, the first few named.
    pub(crate) fn refused(path: &Path, problems: &[Problem]) -> Self {
        let first: Vec<String> = problems.iter().take(3).map(|p| p.to_string()).collect();
        Self::Problems {
            path: path.into(),
            count: problems.len(),
            first: first.join("\n"),
        }
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
    /// The file, or what stands for it in messages.
    pub path: PathBuf,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Objects, crowds among them.
    pub instances: Vec<Instance>,
    /// Where [`Sample::image`] gets the pixels.
    pub origin: Origin,
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

impl Dataset {
    /// Opens the split `name` of the data set in `dir`; the problems are those left out.
    pub fn open(
        dir: &Path,
        name: &str,
        on_problem: OnProblem,
    ) -> Result<(Self, Vec<Problem>), DataError> {
        let split = find_split(dir, name)?;
        let (dataset, problems) = read_split(&split)?;
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
}
