//! Errors of datasets.

use super::problem::{Problem, summarized};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Errors of opening, checking or reading a dataset.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file is JSON of another tool.
    #[error("{path}: {advice}")]
    NotCoco {
        /// The path of the file.
        path: PathBuf,
        /// The kind of the file, and the fix.
        advice: String,
    },
    /// The annotation file is not COCO JSON.
    #[error("{path}: {reason}; give a complete COCO instances JSON file")]
    Json {
        /// The path of the file.
        path: PathBuf,
        /// The fault, with line and column.
        reason: String,
    },
    /// No annotation file was found.
    #[error(
        "{dir}: no COCO annotations; looked for annotations/instances_SPLIT*.json, \
         SPLIT/_annotations.coco.json, SPLIT/annotations.json, annotations_SPLIT.json, SPLIT.json, \
         annotations.json and result.json; other formats are converted with `mrcnn-cli dataset convert`"
    )]
    NotFound {
        /// The path of the folder.
        dir: PathBuf,
    },
    /// There are splits, but not the requested one.
    #[error(
        "{dir}: no split `{wanted}`; the splits are {known}: set data.train, data.val or --split"
    )]
    NoSplit {
        /// The path of the folder.
        dir: PathBuf,
        /// The requested split.
        wanted: String,
        /// The splits that exist.
        known: String,
    },
    /// There are several JSON files whose names do not identify a split.
    #[error(
        "{dir}: any of {} could hold the annotations; give one with --data FILE (and --set data.images=DIR)",
        listed(files)
    )]
    Unnamed {
        /// The path of the folder.
        dir: PathBuf,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// The training set has no object to train on, or cannot be divided.
    #[error("{path}: {reason}")]
    NothingToLearn {
        /// The path of the file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The validation split has classes that the training split lacks.
    #[error(
        "{path}: {}: use the same class names in both, or leave these objects out",
        other_classes(missing, known)
    )]
    OtherClasses {
        /// The path of the validation split's annotations.
        path: PathBuf,
        /// Its unknown classes.
        missing: String,
        /// The training split's classes.
        known: String,
    },
    /// There is no validation split, and `data.val_fraction` is 0.
    #[error(
        "{path}: there is no split `{val}` to evaluate on: set data.val_fraction (such as 0.1) to hold images \
         out, or data.val = \"{train}\" to evaluate on the training images"
    )]
    NoValidation {
        /// The path of the training split's annotations.
        path: PathBuf,
        /// The requested split.
        val: String,
        /// The training split.
        train: String,
    },
    /// Several annotation files fit a split.
    #[error(
        "split `{split}` could be any of {}: give the full name of one, or move the others away",
        listed(files)
    )]
    Ambiguous {
        /// The requested name.
        split: String,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// There are bad annotations, and `data.on_problem` is `refuse`.
    #[error(
        "{path}: {count} bad annotations or images, e.g.\n{first}\nsee all with `mrcnn-cli dataset \
         check DIR`, or leave them out with --set data.on_problem=skip"
    )]
    Problems {
        /// The path of the file.
        path: PathBuf,
        /// Number of bad annotations and images.
        count: usize,
        /// The first few, one per line.
        first: String,
    },
    /// The split has no usable image.
    #[error("{path}: no usable image")]
    Empty {
        /// The path of the file.
        path: PathBuf,
    },
}

fn other_classes(missing: &str, known: &str) -> String {
    format!("the training split has no class {missing} (it has {known})")
}

impl DataError {
    /// The problem without the file, which a [`Problem`] has of its own.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::OtherClasses { missing, known, .. } => other_classes(missing, known),
            other => other.to_string(),
        }
    }

    /// The error for a dataset with `problems`, with the first few as examples.
    pub(crate) fn refused(path: &Path, problems: &[Problem]) -> Self {
        // One of each kind is more informative than three of the same.
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
