//! Data sets of other formats to COCO folders that training takes as they are.

pub(crate) mod data_yaml;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod lvis;
pub(crate) mod records;
mod shards;
pub(crate) mod voc;
mod writer;
pub(crate) mod yolo;

use crate::image::decode::DecodeError;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// LVIS: COCO JSON whose pictures are named by `coco_url`.
    Lvis,
    /// Pascal VOC: `Annotations/*.xml` with the masks in `SegmentationObject/*.png`.
    Voc,
    /// YOLO-seg: `data.yaml`, and a text file of polygons a picture.
    Yolo,
    /// TFRecord shards of the reference system (`create_coco_tf_record.py`).
    Tfrecord,
}

/// What is read and where it goes.
#[derive(Clone, Debug)]
pub struct ImportSpec {
    /// What `source` is.
    pub format: Format,
    /// LVIS: the JSON file. The others: the folder.
    pub source: PathBuf,
    /// LVIS: the folder with COCO's pictures.
    pub images: Option<PathBuf>,
    /// Reads this split only, under this name; LVIS: names the split.
    pub split: Option<String>,
    /// The COCO folder, with no such split yet.
    pub out: PathBuf,
}

/// What became of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Its name.
    pub split: String,
    /// Pictures.
    pub pictures: usize,
    /// Objects.
    pub objects: usize,
    /// What was left out: the reason, and how often.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Why a data set could not be read.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
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
    /// A picture.
    #[error(transparent)]
    Picture(#[from] DecodeError),
    /// The split is there already.
    #[error("{path} exists; give another --out, or another --split")]
    Exists {
        /// Its annotations.
        path: PathBuf,
    },
}

impl ImportError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.into();
        Self::Io { path, source }
    }

    fn source(path: &Path, reason: impl ToString) -> Self {
        Self::Source {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }

    fn line(path: &Path, line: usize, reason: impl ToString) -> Self {
        Self::Source {
            path: format!("{}, line {line}", path.display()),
            reason: reason.to_string(),
        }
    }
}

/// Reads a data set and writes it as `OUT/SPLIT/` with the pictures (linked to where that works, else
/// copied) and `OUT/annotations/instances_SPLIT.json`.
///
/// What a format cannot say with masks is left out and counted; what is wrong is an error.
pub fn import(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    std::fs::metadata(&spec.source).map_err(|error| ImportError::io(&spec.source, error))?;
    match spec.format {
        Format::Lvis => lvis::read(spec),
        Format::Voc => voc::read(spec),
        Format::Yolo => yolo::read(spec),
        Format::Tfrecord => shards::read(spec),
    }
}

/// The text of a file, which must be a regular one (a pipe or a device may never end) of `most` bytes at most.
fn read_text(path: &Path, most: u64) -> Result<String, ImportError> {
    let io = |error| ImportError::io(path, error);
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(ImportError::source(path, "not a regular file"));
    }
    if metadata.len() > most {
        let reason = format!("{} bytes; at most {most} are read", metadata.len());
        return Err(ImportError::source(path, reason));
    }
    let mut text = String::new();
    // It may grow in the meantime.
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(most).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// Bytes of a list of images or of an image's labels that are read.
const LONGEST_TEXT: u64 = 256 << 20;

/// Whether the split `name` is asked for.
fn is_wanted(spec: &ImportSpec, name: &str) -> bool {
    spec.split.as_deref().is_none_or(|wanted| wanted == name)
}
