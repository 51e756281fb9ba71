//! Our own files: safetensors with torchvision's names; configuration, classes and what is known of
//! the training in the header, so that one file is all that prediction needs.

use super::error::WeightsError;
use super::state::{FloatType, StateDict, TRACKED, state_dict};
use crate::config::Config;
use crate::data::Classes;
use crate::model::MaskRcnn;
use burn::tensor::{TensorData, f16};
use safetensors::View;
use safetensors::tensor::{Dtype, Metadata};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Weights with what is needed to use them.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The configuration they were trained with.
    pub config: Config,
    /// Class names and category ids.
    pub classes: Classes,
    /// What is known of their training.
    pub training: Option<TrainingRecord>,
    /// The tensors.
    pub tensors: StateDict,
}

/// How far a training had come, kept in the header of its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// The version of this crate that trained.
    pub version: String,
    /// Steps taken.
    pub step: usize,
    /// Pictures trained on.
    pub pictures: usize,
    /// Box AP on the validation split, if it was evaluated.
    pub box_ap: Option<f64>,
    /// Mask AP on the validation split, if it was evaluated.
    pub mask_ap: Option<f64>,
}

/// Number format of a written file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoredAs {
    /// As trained.
    #[default]
    F32,
    /// Half the size; rounded to 11 bits. Too large values become infinite.
    F16,
}

/// Longest header that is read. A ResNet-152 has 800 tensors and needs 0.1 MB; the format would
/// allow 100 MB, which takes gigabytes to parse.
const LONGEST_HEADER: u64 = 4 << 20;

pub(super) const SAFETENSORS: &str = "safetensors";

/// Writes a model with its configuration and class names, by way of a temporary file, so that a
/// killed process leaves the old file or the new one.
pub fn save(
    path: &Path,
    model: &MaskRcnn,
    config: &Config,
    classes: &Classes,
    training: Option<TrainingRecord>,
) -> Result<(), WeightsError> {
    let checkpoint = Checkpoint {
        config: config.clone(),
        classes: classes.clone(),
        training,
        tensors: state_dict(model),
    };
    checkpoint.save(path, StoredAs::F32)
}

impl Checkpoint {
    /// Writes the file as [`save`] does.
    pub fn save(&self, path: &Path, stored_as: StoredAs) -> Result<(), WeightsError> {
        write_tensors(path, &self.tensors, stored_as, self.header(path)?)
    }

    /// The f32 file as bytes, for [`crate::weights::load_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let path = Path::new("weights.safetensors");
        let header = Some(self.header(path)?);
        serialize(&self.tensors, header).map_err(|source| WeightsError::Io {
            path: path.into(),
            source,
        })
    }

    fn header(&self, path: &Path) -> Result<HashMap<String, String>, WeightsError> {
        let header_error = |key, reason: String| WeightsError::Header {
            path: path.into(),
            key,
            reason,
        };
        let json_error = |key| move |error: serde_json::Error| header_error(key, error.to_string());
        let config = toml::to_string(&self.config)
            .map_err(|error| header_error("config", error.to_string()))?;
        let classes = serde_json::to_string(&self.classes).map_err(json_error("classes"))?;
        let mut header = HashMap::from([
            ("format".to_string(), "mrcnn".to_string()),
            ("config".to_string(), config),
            ("classes".to_string(), classes),
        ]);
        if let Some(training) = &self.training {
            let text = serde_json::to_string(training).map_err(json_error("training"))?;
            header.insert("training".into(), text);
        }
        Ok(header)
    }
}

/// Tensors alone as the bytes of a safetensors file, f32.
#[cfg(feature = "train")]
pub(crate) fn to_bytes(tensors: &StateDict) -> std::io::Result<Vec<u8>> {
    serialize(tensors, None)
}

fn serialize(
    tensors: &StateDict,
    header: Option<HashMap<String, String>>,
) -> std::io::Result<Vec<u8>> {
    let stored_as = StoredAs::F32;
    let views = tensors
        .iter()
        .map(|(name, data)| (name, Stored { data, stored_as }));
    safetensors::serialize(views, header).map_err(|error| std::io::Error::other(error.to_string()))
}

/// The tensors of a file's bytes; `name` is named in errors.
#[cfg(feature = "train")]
pub(crate) fn from_bytes(name: &Path, bytes: &[u8]) -> Result<StateDict, WeightsError> {
    TensorFile::open(name, std::io::Cursor::new(bytes))?.read()
}

/// Writes tensors and header texts as safetensors, by way of a temporary file.
pub fn write_tensors(
    path: &Path,
    tensors: &StateDict,
    stored_as: StoredAs,
    header: HashMap<String, String>,
) -> Result<(), WeightsError> {
    let io_error = |source| WeightsError::Io {
        path: path.into(),
        source,
    };
    let temporary = path.with_extension("safetensors.tmp");
    let views = tensors
        .iter()
        .map(|(name, data)| (name, Stored { data, stored_as }));
    safetensors::serialize_to_file(views, Some(header), &temporary).map_err(
        |error| match error {
            safetensors::SafeTensorError::IoError(source) => io_error(source),
            other => io_error(std::io::Error::other(other.to_string())),
        },
    )?;
    let finish = || {
        File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    finish().map_err(io_error)
}

struct Stored<'a> {
    data: &'a TensorData,
    stored_as: StoredAs,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.stored_as {
            StoredAs::F32 => Dtype::F32,
            StoredAs::F16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.data.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.stored_as {
            StoredAs::F32 => self.data.as_bytes().into(),
            StoredAs::F16 => {
                let values = self.data.iter::<f32>();
                let halves = values.flat_map(|v| f16::from_f32(v).to_le_bytes());
                halves.collect::<Vec<u8>>().into()
            }
        }
    }

    fn data_len(&self) -> usize {
        let size = match self.stored_as {
            StoredAs::F32 => 4,
            StoredAs::F16 => 2,
        };
        self.data.num_elements() * size
    }
}

/// A safetensors file, opened and checked, its tensors not yet read.
pub(crate) struct TensorFile<R> {
    name: PathBuf,
    reader: R,
    first_byte: u64,
    metadata: Metadata,
}

impl<R: Read + Seek> TensorFile<R> {
    /// Reads and checks the header. `name` is named in errors.
    pub(crate) fn open(name: &Path, mut reader: R) -> Result<Self, WeightsError> {
        let io_error = |source| WeightsError::Io {
            path: name.into(),
            source,
        };
        let length = reader.seek(SeekFrom::End(0)).map_err(io_error)?;
        reader.seek(SeekFrom::Start(0)).map_err(io_error)?;
        if length < 8 {
            return Err(format_error(name, format!("it has only {length} bytes")));
        }
        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(io_error)?;
        let size = u64::from_le_bytes(size);
        if size > length - 8 {
            let reason = format!(
                "its header should have {size} bytes, the file has {length}: cut short, or another format"
            );
            return Err(format_error(name, reason));
        }
        if size > LONGEST_HEADER {
            let reason = format!(
                "its header has {size} bytes, more than the {LONGEST_HEADER} a model needs"
            );
            return Err(format_error(name, reason));
        }
        let mut header = vec![0; size as usize];
        reader.read_exact(&mut header).map_err(io_error)?;
        // Checks that the tensors follow each other without gap or overlap and fit their shapes.
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| format_error(name, format!("its header is broken: {error}")))?;
        let (wanted, found) = (metadata.data_len() as u64, length - 8 - size);
        if wanted != found {
            let reason = format!(
                "its tensors should have {wanted} bytes and have {found}: was the copy cut short?"
            );
            return Err(format_error(name, reason));
        }
        Ok(Self {
            name: name.into(),
            reader,
            first_byte: 8 + size,
            metadata,
        })
    }

    /// The header's texts.
    pub(crate) fn texts(&self) -> HashMap<String, String> {
        self.metadata.metadata().clone().unwrap_or_default()
    }

    /// All floating-point tensors, as f32. torch's batch counters are left out.
    pub(crate) fn read(mut self) -> Result<StateDict, WeightsError> {
        let mut tensors = StateDict::new();
        for (name, info) in self.metadata.tensors() {
            if name.ends_with(TRACKED) {
                continue;
            }
            let Some(stored) = FloatType::from_safetensors(info.dtype) else {
                let reason = format!("{name} is {:?}, not floating-point", info.dtype);
                return Err(format_error(&self.name, reason));
            };
            let (start, end) = info.data_offsets;
            let mut bytes = vec![0; end - start];
            self.reader
                .seek(SeekFrom::Start(self.first_byte + start as u64))
                .and_then(|_| self.reader.read_exact(&mut bytes))
                .map_err(|source| WeightsError::Io {
                    path: self.name.clone(),
                    source,
                })?;
            let values = stored.decode(&bytes);
            tensors.insert(name, TensorData::new(values, info.shape.clone()));
        }
        Ok(tensors)
    }
}

fn format_error(path: &Path, reason: String) -> WeightsError {
    WeightsError::Format {
        path: path.into(),
        kind: SAFETENSORS,
        reason,
    }
}

/// A file that [`save`] wrote, from an opened one.
pub(crate) fn read_own<R: Read + Seek>(file: TensorFile<R>) -> Result<Checkpoint, WeightsError> {
    let path = file.name.clone();
    let header = file.texts();
    let header_error = |key, reason: String| WeightsError::Header {
        path: path.clone(),
        key,
        reason,
    };
    let entry = |key: &'static str| {
        header
            .get(key)
            .ok_or_else(|| header_error(key, "it is missing".into()))
    };
    let config = Config::parse(entry("config")?, &path, &[])
        .map_err(|error| header_error("config", error.to_string()))?;
    let classes = serde_json::from_str(entry("classes")?)
        .map_err(|error| header_error("classes", error.to_string()))?;
    let training = match header.get("training") {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| header_error("training", error.to_string()))?,
        None => None,
    };
    Ok(Checkpoint {
        config,
        classes,
        training,
        tensors: file.read()?,
    })
}

/// Opens a safetensors file.
pub(crate) fn open(path: &Path) -> Result<TensorFile<File>, WeightsError> {
    let file = File::open(path).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })?;
    TensorFile::open(path, file)
}

/// Whether the header is one that [`save`] writes.
#[cfg(feature = "convert")]
pub(crate) fn is_own(texts: &HashMap<String, String>) -> bool {
    texts.get("format").is_some_and(|format| format == "mrcnn")
}
