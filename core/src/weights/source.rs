//! Sources of weights: files, bytes, and pretrained models by name.

use super::error::WeightsError;
#[cfg(feature = "convert")]
use super::import::{Format, ImportOptions, Imported, import};
#[cfg(feature = "download")]
use super::import::{coco_80, coco_91};
use super::load::{load, load_bytes};
use super::own::Checkpoint;
#[cfg(feature = "download")]
use crate::data::Classes;
#[cfg(feature = "download")]
use crate::pretrained::{self, ClassList, Coco, FetchOptions, Fetched, Located};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Source of weights: a path, the bytes of a file that [`super::save`] wrote, or a pretrained model.
#[derive(Clone, Debug)]
pub enum WeightsSource<'a> {
    /// A file, read with [`load`].
    File(Cow<'a, Path>),
    /// Bytes, read with [`load_bytes`]: from `include_bytes!` or a download.
    Bytes(Cow<'a, [u8]>),
    /// A pretrained model by its name, downloaded with the settings of the environment unless it is in the cache.
    #[cfg(feature = "download")]
    Pretrained(String),
    /// A pretrained model that [`crate::pretrained::fetch`] returned.
    #[cfg(feature = "download")]
    Fetched(Box<Fetched>),
}

impl<'a> From<&'a str> for WeightsSource<'a> {
    fn from(path: &'a str) -> Self {
        Path::new(path).into()
    }
}

impl<'a> From<&'a String> for WeightsSource<'a> {
    fn from(path: &'a String) -> Self {
        Path::new(path).into()
    }
}

impl<'a> From<&'a Path> for WeightsSource<'a> {
    fn from(path: &'a Path) -> Self {
        Self::File(path.into())
    }
}

impl<'a> From<&'a PathBuf> for WeightsSource<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::File(path.into())
    }
}

impl From<PathBuf> for WeightsSource<'_> {
    fn from(path: PathBuf) -> Self {
        Self::File(path.into())
    }
}

impl<'a> From<&'a [u8]> for WeightsSource<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for WeightsSource<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<'a> From<&'a Vec<u8>> for WeightsSource<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Vec<u8>> for WeightsSource<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

#[cfg(feature = "download")]
impl From<Fetched> for WeightsSource<'_> {
    fn from(fetched: Fetched) -> Self {
        Self::Fetched(Box::new(fetched))
    }
}

impl WeightsSource<'_> {
    /// The source that a value of `--weights` or `train.weights` names: a file, or with the feature `download` a
    /// pretrained model ([`crate::pretrained::locate`]).
    pub fn locate(value: &Path) -> Result<Self, WeightsError> {
        #[cfg(feature = "download")]
        return Ok(match pretrained::locate(value)? {
            Located::File(path) => path.into(),
            Located::Model(model) => Self::Pretrained(model.name),
        });
        #[cfg(not(feature = "download"))]
        Ok(value.to_path_buf().into())
    }

    /// The weights, and their name in messages. `name` is that of bytes.
    pub fn read(self, name: Option<PathBuf>) -> Result<(Checkpoint, PathBuf), WeightsError> {
        match self {
            Self::File(path) => Ok((load(&path)?, path.into_owned())),
            Self::Bytes(bytes) => {
                let name = name.unwrap_or_else(|| "the given bytes".into());
                Ok((load_bytes(&bytes, &name)?, name))
            }
            #[cfg(feature = "download")]
            Self::Pretrained(name) => Self::from(download(&name)?).read(None),
            #[cfg(feature = "download")]
            Self::Fetched(fetched) => {
                let imported = import_fetched(&fetched, &ImportOptions::default())?;
                Ok((imported.checkpoint, fetched.path().into()))
            }
        }
    }

    /// As [`Self::read`], with the format, the ignored entries and the notes of [`import()`].
    #[cfg(feature = "convert")]
    pub fn import(&self, options: &ImportOptions) -> Result<Imported, WeightsError> {
        match self {
            Self::File(path) => import(path, options),
            Self::Bytes(bytes) => Ok(Imported {
                checkpoint: load_bytes(bytes, Path::new("the given bytes"))?,
                format: Format::Own,
                ignored: Vec::new(),
                notes: Vec::new(),
            }),
            #[cfg(feature = "download")]
            Self::Pretrained(name) => import_fetched(&download(name)?, options),
            #[cfg(feature = "download")]
            Self::Fetched(fetched) => import_fetched(fetched, options),
        }
    }
}

/// The file of a model.
#[cfg(feature = "download")]
fn download(name: &str) -> Result<Fetched, WeightsError> {
    let model = pretrained::find(name)?;
    Ok(pretrained::fetch(
        &model,
        &FetchOptions::from_env()?,
        &mut |_| (),
    )?)
}

/// Imports a file with the classes and the settings of its model.
#[cfg(feature = "download")]
fn import_fetched(fetched: &Fetched, options: &ImportOptions) -> Result<Imported, WeightsError> {
    let model = fetched.model();
    let mut options = options.clone();
    if options.classes.is_none() {
        options.classes = model.classes.as_ref().map(|classes| match classes {
            ClassList::Coco(Coco::Sparse) => coco_91(),
            ClassList::Coco(Coco::Dense) => coco_80(),
            ClassList::Names(names) => Classes {
                names: names.clone(),
                ids: (1..=names.len() as u64).collect(),
            },
        });
    }
    let mut imported = import(fetched.path(), &options)?;
    let config = imported.checkpoint.config.with(&model.settings);
    imported.checkpoint.config = config.map_err(|error| WeightsError::Unsupported {
        path: fetched.path().into(),
        reason: format!("settings of the model {}: {error}", model.name),
    })?;
    Ok(imported)
}
