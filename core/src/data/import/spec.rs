//! Sources, results and errors of a conversion.

use crate::image::decode::DecodeError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Found from the contents.
    Auto,
    /// CVAT for images 1.1: `annotations.xml` with `images/`.
    Cvat,
    /// labelme: a JSON file for each image.
    Labelme,
    /// VIA (VGG Image Annotator): a JSON file for all images.
    Via,
    /// LVIS: COCO JSON whose images are named by `coco_url`.
    Lvis,
    /// Pascal VOC: `Annotations/*.xml` with the masks in `SegmentationObject/*.png`.
    Voc,
    /// YOLO-seg: `data.yaml`, and a text file of polygons per image.
    Yolo,
    /// TFRecord shards of the reference system (`create_coco_tf_record.py`).
    Tfrecord,
}

/// Source and destination of a conversion.
#[derive(Clone, Debug)]
pub struct ImportSpec {
    /// What `source` is.
    pub format: Format,
    /// The annotation file or the folder.
    pub source: PathBuf,
    /// The folder of the images where it is not beside the annotations; LVIS: COCO's.
    pub images: Option<PathBuf>,
    /// Reads this split only; for formats without splits, names the split.
    pub split: Option<String>,
    /// The COCO folder, with no such split yet.
    pub out: PathBuf,
}

/// A split that was converted.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Its name.
    pub split: String,
    /// Images.
    pub images: usize,
    /// Objects.
    pub objects: usize,
    /// What was left out: the reason, and how often.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Why a dataset could not be read.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The source is not what it should be.
    #[error("{path}: {reason}")]
    Source {
        /// The file or folder, with a line or a place where there is one.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// An image.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// The split is there already.
    #[error("{path} exists; give another --out, or another --split")]
    Exists {
        /// Its annotations.
        path: PathBuf,
    },
}

impl ImportError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.into();
        Self::Io { path, source }
    }

    pub(super) fn source(path: &Path, reason: impl ToString) -> Self {
        Self::Source {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn line(path: &Path, line: usize, reason: impl ToString) -> Self {
        Self::Source {
            path: format!("{}, line {line}", path.display()),
            reason: reason.to_string(),
        }
    }
}

/// Refuses what is not a regular file (a pipe or a device may never end) of `most` bytes at most.
pub(super) fn check_regular(path: &Path, most: u64) -> Result<(), ImportError> {
    let metadata = std::fs::metadata(path).map_err(|error| ImportError::io(path, error))?;
    if !metadata.is_file() {
        return Err(ImportError::source(path, "not a regular file"));
    }
    if metadata.len() > most {
        let reason = format!("{} bytes; at most {most} are read", metadata.len());
        return Err(ImportError::source(path, reason));
    }
    Ok(())
}

/// The text of a regular file of `most` bytes at most.
pub(super) fn read_text(path: &Path, most: u64) -> Result<String, ImportError> {
    check_regular(path, most)?;
    crate::data::json::read_text(path).map_err(|error| ImportError::io(path, error))
}

/// Bytes of a list of images or of an image's labels that are read.
pub(super) const LONGEST_TEXT: u64 = 256 << 20;

/// Whether the split `name` is asked for.
pub(super) fn is_wanted(spec: &ImportSpec, name: &str) -> bool {
    spec.split.as_deref().is_none_or(|wanted| wanted == name)
}
