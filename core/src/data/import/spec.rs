//! Settings, results and errors of a conversion.

use crate::data::locate::Locator;
use crate::image::decode::DecodeError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A format that can be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Detected from the contents.
    Auto,
    /// CVAT for images 1.1: `annotations.xml` with `images/`.
    Cvat,
    /// labelme: a JSON file per image.
    Labelme,
    /// VIA (VGG Image Annotator): a JSON file for all images.
    Via,
    /// LVIS: COCO JSON with images identified by `coco_url`.
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
    /// Format of `source`.
    pub format: Format,
    /// The annotation file or the folder.
    pub source: PathBuf,
    /// The folder of the images if it is not beside the annotations; for LVIS, that of COCO's images.
    pub images: Option<PathBuf>,
    /// Reads only this split; for formats without splits, the name of the output split.
    pub split: Option<String>,
    /// The output folder in COCO's layout; it must not contain the split yet.
    pub out: PathBuf,
}

/// A converted split.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Name of the split.
    pub split: String,
    /// Number of images.
    pub images: usize,
    /// Number of objects.
    pub objects: usize,
    /// Reasons for leaving out objects or images, with the count of each.
    pub left_out: BTreeMap<&'static str, usize>,
    /// Notes to check, such as images found under another name.
    pub notes: Vec<String>,
}

/// Errors of a conversion.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The source is invalid or not supported.
    #[error("{path}: {reason}")]
    Source {
        /// The path of the file or folder, with a line or a position if known.
        path: String,
        /// The fault and its fix.
        reason: String,
    },
    /// An image cannot be read.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// The split exists already.
    #[error("{path} exists; give another --out, or another --split")]
    Exists {
        /// The path of its annotations.
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

/// The file of an image that the file `source` names.
pub(super) fn find_image(
    locator: &mut Locator,
    name: &str,
    source: &Path,
) -> Result<PathBuf, ImportError> {
    locator.find(name).map_err(|expected| {
        let mut reason = format!("its image {}", locator.missing(name, &expected));
        if !locator.is_ambiguous(name) {
            reason += "; give the folder with --images";
        }
        ImportError::source(source, reason)
    })
}

/// Rejects anything but a regular file (a pipe or a device may never end) of at most `most` bytes.
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

/// Reads a text file, which must be a regular one of at most `most` bytes.
pub(super) fn read_text(path: &Path, most: u64) -> Result<String, ImportError> {
    check_regular(path, most)?;
    crate::data::json::read_text(path).map_err(|error| ImportError::io(path, error))
}

/// Maximum length in bytes of a list of images or of an image's labels.
pub(super) const LONGEST_TEXT: u64 = 256 << 20;

/// Whether the split `name` is requested.
pub(super) fn is_wanted(spec: &ImportSpec, name: &str) -> bool {
    spec.split.as_deref().is_none_or(|wanted| wanted == name)
}
