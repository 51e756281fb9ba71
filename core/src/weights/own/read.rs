//! Reader of safetensors files.

use super::checksum::{CHECKSUM, Checksum};
use crate::budget::excerpt;
use crate::weights::error::WeightsError;
use crate::weights::names::is_counter;
use crate::weights::state::{FloatType, StateDict};
use burn::tensor::TensorData;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Maximum length of a header. A ResNet-152 has 800 tensors and needs 0.1 MB; the format would
/// allow 100 MB, which takes gigabytes to parse.
const LONGEST_HEADER: u64 = 4 << 20;

const SAFETENSORS: &str = "safetensors";

/// A safetensors file that was opened and checked; its tensors are not read yet.
pub(crate) struct TensorFile<R> {
    pub(super) name: PathBuf,
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
                "its tensors should have {wanted} bytes and have {found}: the file is incomplete; copy it again"
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
        let (mut tensors, mut checksum) = (StateDict::new(), Checksum::default());
        let infos: BTreeMap<String, TensorInfo> = self
            .metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        for (name, info) in infos {
            if is_counter(&name) {
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

/// Opens a safetensors file.
pub(crate) fn open(path: &Path) -> Result<TensorFile<File>, WeightsError> {
    let file = File::open(path).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })?;
    TensorFile::open(path, file)
}

/// The tensors in a file's bytes; `name` is the file's name in errors.
#[cfg(feature = "train")]
pub(crate) fn from_bytes(name: &Path, bytes: &[u8]) -> Result<StateDict, WeightsError> {
    TensorFile::open(name, std::io::Cursor::new(bytes))?.read()
}

fn format_error(path: &Path, reason: String) -> WeightsError {
    WeightsError::Format {
        path: path.into(),
        kind: SAFETENSORS,
        reason,
    }
}
