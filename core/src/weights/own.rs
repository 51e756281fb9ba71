//! This crate's weights files: safetensors with torchvision's names. The header has the configuration, the classes and
//! the progress of training, so that prediction needs no other file.

use super::error::WeightsError;
use super::state::{FloatType, StateDict, TRACKED, state_dict};
use crate::budget::excerpt;
use crate::config::Config;
use crate::data::Classes;
use crate::disk::write_durably;
use crate::model::MaskRcnn;
use burn::tensor::{TensorData, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Weights with everything needed to use them.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The configuration they were trained with.
    pub config: Config,
    /// Class names and category ids.
    pub classes: Classes,
    /// The progress of their training.
    pub training: Option<TrainingRecord>,
    /// The tensors.
    pub tensors: StateDict,
}

/// Progress of a training, stored in the header of its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// The version of this crate that trained them.
    pub version: String,
    /// Number of steps.
    pub step: usize,
    /// Number of images trained on.
    #[serde(alias = "pictures")]
    pub images: usize,
    /// Box AP on the validation split, if it was evaluated.
    pub box_ap: Option<f64>,
    /// Mask AP on the validation split, if it was evaluated.
    pub mask_ap: Option<f64>,
}

/// Dtype of the tensors in a written file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoredAs {
    /// The dtype in training.
    #[default]
    F32,
    /// Half the size; rounded to 11 bits. Values beyond 65504 are an error.
    F16,
    /// As `F16`, but values beyond 65504 become 65504.
    F16Clamped,
}

impl StoredAs {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 | Self::F16Clamped => Dtype::F16,
        }
    }

    fn encode(self, data: &TensorData) -> Cow<'_, [u8]> {
        match self {
            Self::F32 => data.as_bytes().into(),
            Self::F16 | Self::F16Clamped => {
                let most = f16::MAX.to_f32();
                let rounded = |value: f32| f16::from_f32(value.clamp(-most, most)).to_le_bytes();
                let values = data.iter::<f32>();
                values.flat_map(rounded).collect::<Vec<u8>>().into()
            }
        }
    }
}

/// Values beyond the range of f16: their number, and the first with its tensor.
pub fn f16_overflows(tensors: &StateDict) -> Option<(usize, String, f32)> {
    // Values that round to 65504 do not overflow.
    let overflows = |value: &f32| f16::from_f32(*value).is_infinite();
    let mut all = tensors.iter().flat_map(|(name, data)| {
        let found = data.iter::<f32>().filter(overflows);
        found.map(move |value| (name, value))
    });
    let (name, value) = all.next()?;
    Some((1 + all.count(), name.clone(), value))
}

/// Maximum length of a header. A ResNet-152 has 800 tensors and needs 0.1 MB; the format would
/// allow 100 MB, which takes gigabytes to parse.
const LONGEST_HEADER: u64 = 4 << 20;

/// The key of the header's entry with the checksum of the tensors.
const CHECKSUM: &str = "crc32c";

/// Maximum length of the configuration in a header.
const LONGEST_CONFIG: usize = 64 << 10;

pub(super) const SAFETENSORS: &str = "safetensors";

/// Writes a model with its configuration and class names atomically: after an interruption, the old file or
/// the new one exists.
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
    /// Writes the file like [`save`].
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

    /// Rejects tensors with NaN or infinite values, with which a network silently predicts nothing, and
    /// configurations of networks that are much larger than the tensors.
    pub(crate) fn check(&self, path: &Path) -> Result<(), WeightsError> {
        let finite = |data: &TensorData| data.iter::<f32>().all(f32::is_finite);
        if let Some((name, data)) = self.tensors.iter().find(|(_, data)| !finite(data)) {
            let count = data
                .iter::<f32>()
                .filter(|value| !value.is_finite())
                .count();
            return Err(WeightsError::NotFinite {
                path: path.into(),
                name: excerpt(name).into_owned(),
                count,
            });
        }
        let values = self.tensors.values().map(|data| data.num_elements() as u64);
        check_size(&self.config, values.sum(), path)
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

/// Only tensors, as the bytes of a safetensors file, f32.
#[cfg(feature = "train")]
pub(crate) fn to_bytes(tensors: &StateDict) -> std::io::Result<Vec<u8>> {
    serialize(tensors, None)
}

fn serialize(
    tensors: &StateDict,
    header: Option<HashMap<String, String>>,
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(
        &mut bytes,
        tensors,
        StoredAs::F32,
        header.unwrap_or_default(),
    )?;
    Ok(bytes)
}

/// Writes a safetensors file: the header's length, the header with a checksum of the tensors, the tensors in the
/// order of their names, one at a time in memory.
fn write_to(
    out: &mut dyn Write,
    tensors: &StateDict,
    stored_as: StoredAs,
    mut header: HashMap<String, String>,
) -> std::io::Result<()> {
    let (mut place, mut infos, mut checksum) = (0, Vec::with_capacity(tensors.len()), Checksum(0));
    for (name, data) in tensors {
        let bytes = stored_as.encode(data);
        checksum.add(name, &bytes);
        let info = TensorInfo {
            dtype: stored_as.dtype(),
            shape: data.shape().to_vec(),
            data_offsets: (place, place + bytes.len()),
        };
        place += bytes.len();
        infos.push((name.clone(), info));
    }
    header.insert(CHECKSUM.into(), checksum.to_string());
    let metadata = Metadata::new(Some(header), infos)
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut text = serde_json::to_vec(&metadata)?;
    // Tensors start at a multiple of 8 bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    for data in tensors.values() {
        out.write_all(&stored_as.encode(data))?;
    }
    Ok(())
}

/// CRC-32C over names and bytes of tensors, in the order of their names.
struct Checksum(u32);

impl Checksum {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, name.as_bytes());
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The tensors in a file's bytes; `name` is the file's name in errors.
#[cfg(feature = "train")]
pub(crate) fn from_bytes(name: &Path, bytes: &[u8]) -> Result<StateDict, WeightsError> {
    TensorFile::open(name, std::io::Cursor::new(bytes))?.read()
}

/// Writes tensors and header texts as safetensors, atomically.
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
    if stored_as == StoredAs::F16
        && let Some((count, name, value)) = f16_overflows(tensors)
    {
        return Err(WeightsError::Overflow {
            path: path.into(),
            count,
            name: excerpt(&name).into_owned(),
            value,
        });
    }
    let written = write_durably(path, |out| write_to(out, tensors, stored_as, header));
    written.map_err(io_error)
}

/// A safetensors file that was opened and checked; its tensors are not read yet.
pub(crate) struct TensorFile<R> {
    name: PathBuf,
    reader: R,
    first_byte: u64,
    metadata: Metadata,
}

impl<R: Read + Seek> TensorFile<R> {
    /// Reads and checks the header. `name` is the file's name in errors.
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
                "its header should have {size} bytes, the file has {length}: truncated, or another format"
            );
            return Err(format_error(name, reason));
        }
        if size > LONGEST_HEADER {
            let reason = format!("its header has {size} bytes; at most {LONGEST_HEADER} are read");
            return Err(format_error(name, reason));
        }
        let mut header = vec![0; size as usize];
        reader.read_exact(&mut header).map_err(io_error)?;
        // Checks that the tensors are contiguous and match their shapes.
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| format_error(name, format!("its header is invalid: {error}")))?;
        let (wanted, found) = (metadata.data_len() as u64, length - 8 - size);
        if wanted != found {
            let reason = format!(
                "its tensors should have {wanted} bytes and have {found}: is the copy incomplete?"
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

    /// The texts in the header.
    pub(crate) fn texts(&self) -> HashMap<String, String> {
        self.metadata.metadata().clone().unwrap_or_default()
    }

    /// All floating-point tensors, as f32. torch's batch counters are left out. A checksum in the header is
    /// verified.
    pub(crate) fn read(mut self) -> Result<StateDict, WeightsError> {
        let (mut tensors, mut checksum) = (StateDict::new(), Checksum(0));
        let infos: BTreeMap<String, TensorInfo> = self
            .metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        for (name, info) in infos {
            if name.ends_with(TRACKED) {
                continue;
            }
            let Some(stored) = FloatType::from_safetensors(info.dtype) else {
                let reason = format!("{} is {:?}, not floating-point", excerpt(&name), info.dtype);
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
            checksum.add(&name, &bytes);
            let values = stored.decode(&bytes);
            tensors.insert(name, TensorData::new(values, info.shape));
        }
        let written = self.texts().remove(CHECKSUM);
        if written.is_some_and(|written| written != checksum.to_string()) {
            let reason = "its tensors are damaged (checksum): copy the file again".to_string();
            return Err(format_error(&self.name, reason));
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

/// The contents of an opened file that [`save`] wrote.
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
    let text = entry("config")?;
    if text.len() > LONGEST_CONFIG {
        let reason = format!(
            "it has {} bytes, at most {LONGEST_CONFIG} are read",
            text.len()
        );
        return Err(header_error("config", reason));
    }
    let config = Config::parse(text, &path, &[])
        .map_err(|error| header_error("config", error.to_string()))?;
    let classes = serde_json::from_str(entry("classes")?)
        .map_err(|error| header_error("classes", error.to_string()))?;
    let training = match header.get("training") {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| header_error("training", error.to_string()))?,
        None => None,
    };
    let checkpoint = Checkpoint {
        config,
        classes,
        training,
        tensors: file.read()?,
    };
    checkpoint.check(&path)?;
    Ok(checkpoint)
}

/// Rejects a configuration whose network is much larger than the values in the file: a header of a few
/// bytes could otherwise request all memory. A file with a backbone only has the configuration of a whole network.
fn check_size(config: &Config, values: u64, path: &Path) -> Result<(), WeightsError> {
    let wanted = config.model.values();
    let most = values.saturating_mul(4).saturating_add(HEADS);
    if wanted <= most {
        return Ok(());
    }
    Err(WeightsError::Unsupported {
        path: path.into(),
        reason: format!(
            "its configuration describes a network of {wanted} values, and it has {values}: not the weights of \
             that network"
        ),
    })
}

/// Upper bound of the number of values of the FPN and the heads of the default network.
const HEADS: u64 = 32 << 20;

/// Opens a safetensors file.
pub(crate) fn open(path: &Path) -> Result<TensorFile<File>, WeightsError> {
    let file = File::open(path).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })?;
    TensorFile::open(path, file)
}

/// Whether the header is one of a file that [`save`] wrote.
#[cfg(feature = "convert")]
pub(crate) fn is_own(texts: &HashMap<String, String>) -> bool {
    texts.get("format").is_some_and(|format| format == "mrcnn")
}
