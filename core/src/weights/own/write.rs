//! Writer of safetensors files.

use super::checksum::{CHECKSUM, Checksum};
use crate::budget::excerpt;
use crate::disk::write_durably;
use crate::weights::error::WeightsError;
use crate::weights::state::StateDict;
use burn::tensor::{TensorData, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

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

/// Only tensors, as the bytes of a safetensors file, f32.
#[cfg(feature = "train")]
pub(crate) fn to_bytes(tensors: &StateDict) -> std::io::Result<Vec<u8>> {
    serialize(tensors, None)
}

pub(super) fn serialize(
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
    let (mut place, mut infos, mut checksum) =
        (0, Vec::with_capacity(tensors.len()), Checksum::default());
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
