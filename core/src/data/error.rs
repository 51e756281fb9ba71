//! Reasons why a dataset cannot be used.

use super::problem::{Problem, summarized};
use std::path::{Path, PathBuf};
use thiserror::Error;

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
        "{path}: {}: name the classes alike in both, or leave these objects out",
        other_classes(missing, known)
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

fn other_classes(missing: &str, known: &str) -> String {
    format!("the training split has no class {missing} (it has {known})")
}

impl DataError {
    /// What is wrong, without the file and the fix where they are known to be told apart.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::OtherClasses { missing, known, .. } => other_classes(missing, known),
            other => other.to_string(),
        }
    }

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
