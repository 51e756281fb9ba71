//! TensorFlow checkpoints: `PREFIX.index` and `PREFIX.data-00000-of-00001`.
//!
//! Source: tensorflow/core/protobuf/tensor_bundle.proto.

use super::table;
use crate::crc::masked_crc;
use crate::weights::state::FloatType;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// `BundleHeaderProto`, under the empty key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Header {
    #[prost(int32, tag = "1")]
    pub num_shards: i32,
    #[prost(int32, tag = "2")]
    pub endianness: i32,
}

/// `BundleEntryProto`, under a variable's name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
    #[prost(int32, tag = "3")]
    pub shard_id: i32,
    #[prost(int64, tag = "4")]
    pub offset: i64,
    #[prost(int64, tag = "5")]
    pub size: i64,
    #[prost(fixed32, tag = "6")]
    pub crc32c: u32,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dim>,
}

/// A dimension of [`Shape`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dim {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

/// Values, row-major, and their shape.
pub type Values = (Vec<f32>, Vec<usize>);

/// A checkpoint whose index was read.
pub struct Bundle {
    prefix: PathBuf,
    shards: i32,
    /// The variables, by name.
    pub entries: BTreeMap<String, Entry>,
}

/// Maximum length of an index in bytes: a million variables fit.
const LARGEST_INDEX: u64 = 64 << 20;

/// The prefix of a checkpoint, from the prefix itself, its index or one of its data files.
pub fn prefix(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".index").unwrap_or(name);
    let stem = stem.split(".data-").next().unwrap_or(stem);
    let prefix = path.with_file_name(stem);
    index_of(&prefix).is_file().then_some(prefix)
}

fn index_of(prefix: &Path) -> PathBuf {
    with_suffix(prefix, ".index")
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Bundle {
    /// Reads the index.
    pub fn open(prefix: &Path) -> Result<Self, String> {
        let path = index_of(prefix);
        let io_error = |error: std::io::Error| format!("{}: {error}", path.display());
        let size = path.metadata().map_err(io_error)?.len();
        if size > LARGEST_INDEX {
            return Err(format!(
                "its index has {size} bytes, the most is {LARGEST_INDEX}"
            ));
        }
        let bytes = std::fs::read(&path).map_err(io_error)?;
        let mut bundle = Self {
            prefix: prefix.into(),
            shards: 0,
            entries: BTreeMap::new(),
        };
        for (key, value) in table::read(&bytes)? {
            let broken = |error: prost::DecodeError| format!("an entry is invalid: {error}");
            if key.is_empty() {
                let header: Header = prost::Message::decode(value.as_slice()).map_err(broken)?;
                if header.endianness != 0 {
                    return Err("it was written on a big-endian machine".into());
                }
                bundle.shards = header.num_shards;
                continue;
            }
            let name = String::from_utf8(key).map_err(|_| "a name is not UTF-8")?;
            let entry = prost::Message::decode(value.as_slice()).map_err(broken)?;
            bundle.entries.insert(name, entry);
        }
        if !(1..=9999).contains(&bundle.shards) {
            return Err(format!("it has {} data files", bundle.shards));
        }
        Ok(bundle)
    }

    /// Total bytes of all data files.
    pub fn data_length(&self) -> u64 {
        let files = (0..self.shards).map(|shard| self.data_file(shard));
        files
            .filter_map(|path| Some(path.metadata().ok()?.len()))
            .sum()
    }

    fn data_file(&self, shard: i32) -> PathBuf {
        let suffix = format!(".data-{shard:05}-of-{:05}", self.shards);
        with_suffix(&self.prefix, &suffix)
    }

    /// The values and the shape of a variable; `None` if it is not floating-point.
    pub fn read(&self, name: &str) -> Result<Option<Values>, String> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        let stored = match entry.dtype {
            1 => FloatType::F32,
            2 => FloatType::F64,
            14 => FloatType::Bf16,
            19 => FloatType::F16,
            _ => return Ok(None),
        };
        let dims = entry.shape.iter().flat_map(|shape| &shape.dim);
        let shape: Option<Vec<usize>> = dims.map(|dim| usize::try_from(dim.size).ok()).collect();
        let shape = shape.ok_or_else(|| format!("{name} has a negative length"))?;
        let wanted = shape
            .iter()
            .try_fold(stored.size(), |n, &length| n.checked_mul(length));
        if wanted.map(|w| w as u64) != u64::try_from(entry.size).ok() {
            return Err(format!("{name} {shape:?} has {} bytes", entry.size));
        }
        let bytes = self.bytes(name, entry)?;
        if masked_crc(&bytes) != entry.crc32c.to_le_bytes() {
            return Err(format!("{name} is damaged (checksum)"));
        }
        Ok(Some((stored.decode(&bytes), shape)))
    }

    fn bytes(&self, name: &str, entry: &Entry) -> Result<Vec<u8>, String> {
        let path = self.data_file(entry.shard_id);
        let io_error = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = File::open(&path).map_err(io_error)?;
        let length = file.metadata().map_err(io_error)?.len();
        let (offset, size) = (entry.offset.max(0) as u64, entry.size.max(0) as u64);
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(format!(
                "{name} reaches beyond {}: the file is truncated",
                path.display()
            ));
        }
        let mut bytes = vec![0; size as usize];
        file.seek(SeekFrom::Start(offset)).map_err(io_error)?;
        file.read_exact(&mut bytes).map_err(io_error)?;
        Ok(bytes)
    }
}
