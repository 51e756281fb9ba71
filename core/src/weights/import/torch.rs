//! PyTorch's files: zip archives (since 1.6), the older stream of pickles, and pickles of
//! numpy arrays (Detectron2's model zoo). Source: torch/serialization.py.

use super::pickle::{self, Array, Object, Pickle, Storage, Tensor};
use super::views::{column_major, gather, row_major};
use crate::budget::{Budget, excerpt};
use crate::weights::state::{FloatType, StateDict};
use burn::tensor::TensorData;
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use zip::{CompressionMethod, ZipArchive};

/// The contents of a file, by their names in it.
#[derive(Debug, Default)]
pub struct Contents {
    /// Floating-point tensors, as f32.
    pub tensors: StateDict,
    /// Names of entries that are not floating-point tensors.
    pub ignored: Vec<String>,
}

/// Maximum length of `data.pkl` in bytes; that of a model with its optimizer has 1 MB.
const LARGEST_PICKLE: u64 = 64 << 20;

/// Reads a zip archive of `torch.save`.
pub fn read_zip<R: Read + Seek>(reader: R, file_length: u64) -> Result<Contents, String> {
    let mut archive = ZipArchive::new(reader).map_err(|error| error.to_string())?;
    let names = archive.file_names().filter_map(Result::ok);
    let description = names
        .map(|name| name.into_owned())
        .find(|name| name == "data.pkl" || name.ends_with("/data.pkl"))
        .ok_or("it is a zip archive without data.pkl: not from torch.save")?;
    let folder = description.trim_end_matches("data.pkl").to_string();
    let bytes = entry(&mut archive, &description, LARGEST_PICKLE)?;
    let byte_order = format!("{folder}byteorder");
    if archive.by_name(&byte_order).is_ok() && entry(&mut archive, &byte_order, 16)? != b"little" {
        return Err("it was written on a big-endian machine".into());
    }
    let pickle = pickle::read(&bytes)?;
    // Entries of a zip archive may overlap, so the total of their bytes is limited too.
    let budget = Budget::for_file(file_length);
    assemble(&pickle, file_length, |storage, stored| {
        let name = format!("{folder}data/{}", excerpt(storage.key));
        let wanted = storage.count.checked_mul(stored.size() as u64);
        let wanted = wanted.ok_or_else(|| format!("{name} has too many values"))?;
        let most = wanted.min(file_length);
        let read = budget.work(usize::try_from(most).unwrap_or(usize::MAX));
        read.map_err(|error| error.to_string())?;
        let bytes = entry(&mut archive, &name, most)?;
        if bytes.len() as u64 != wanted {
            return Err(format!(
                "{name} has {} bytes, data.pkl declares {wanted}",
                bytes.len()
            ));
        }
        Ok(stored.decode(&bytes))
    })
}

/// An uncompressed entry, which is how torch writes all of them.
fn entry<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    name: &str,
    most: u64,
) -> Result<Vec<u8>, String> {
    let mut entry = archive
        .by_name(name)
        .map_err(|error| format!("{name}: {error}"))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(format!("{name} is compressed, which torch.save never does"));
    }
    let size = entry.size();
    if size > most {
        return Err(format!("{name} has {size} bytes, at most {most} are read"));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    entry
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name}: {error}"))?;
    Ok(bytes)
}

/// The number at the start of files of torch before 1.6, as a pickled long.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether these are the first bytes of a file of torch before 1.6.
pub fn is_legacy(start: &[u8]) -> bool {
    start
        .windows(LEGACY_MAGIC.len())
        .take(8)
        .any(|w| w == LEGACY_MAGIC)
}

/// Reads a file of torch before 1.6: pickles for the magic number, the protocol, the machine, the state
/// dict and the storages' keys; then each storage's length and values.
pub fn read_legacy(bytes: &[u8]) -> Result<Contents, String> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle<'_>, String> {
        let pickle = pickle::read(rest)?;
        rest = &rest[pickle.length..];
        Ok(pickle)
    };
    let (_magic, protocol, _machine) = (next()?, next()?, next()?);
    if protocol.root != pickle::Value::Int(1001) {
        return Err("it has an unknown protocol version".into());
    }
    let (state, keys) = (next()?, next()?);
    let storages: BTreeMap<&str, &Storage> = state
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Storage(storage) => Some((storage.key, storage)),
            _ => None,
        })
        .collect();
    let mut places = BTreeMap::new();
    let keys_list = keys.items(keys.root).ok_or("it has no list of storages")?;
    for &key in keys_list {
        let key = keys.text(key).map_err(|error| error.to_string())?;
        let key = key.ok_or("a storage has no key")?;
        let found = storages.get_key_value(key);
        let key = excerpt(key);
        let (&name, storage) = found.ok_or_else(|| format!("storage {key} is not described"))?;
        let (count, after) = rest.split_at_checked(8).ok_or("it is truncated")?;
        if count != storage.count.to_le_bytes() {
            return Err(format!("storage {key} has another length than declared"));
        }
        let size = storage_size(storage.kind)
            .and_then(|size| storage.count.checked_mul(size))
            .ok_or_else(|| {
                let kind = excerpt(storage.kind);
                format!("storage {key} is of an unknown type, {kind}")
            })?;
        let numbers = after.get(..size as usize).ok_or("it is truncated")?;
        places.insert(name, numbers);
        rest = &after[numbers.len()..];
    }
    assemble(&state, bytes.len() as u64, |storage, stored| {
        let numbers = places.get(storage.key);
        let numbers = numbers.ok_or_else(|| {
            let key = excerpt(storage.key);
            format!("storage {key} is missing")
        })?;
        Ok(stored.decode(numbers))
    })
}

/// Reads a pickle of numpy arrays.
pub fn read_arrays(bytes: &[u8]) -> Result<Contents, String> {
    let pickle = pickle::read(bytes)?;
    assemble(&pickle, bytes.len() as u64, |storage, _| {
        let key = excerpt(storage.key);
        Err(format!("storage {key} is in another file"))
    })
}

fn float_type(kind: &str) -> Option<FloatType> {
    match kind {
        "FloatStorage" | "f4" => Some(FloatType::F32),
        "HalfStorage" | "f2" => Some(FloatType::F16),
        "BFloat16Storage" => Some(FloatType::Bf16),
        "DoubleStorage" | "f8" => Some(FloatType::F64),
        _ => None,
    }
}

/// Bytes per value of a storage type.
fn storage_size(kind: &str) -> Option<u64> {
    match kind {
        "LongStorage" => Some(8),
        "IntStorage" => Some(4),
        "ShortStorage" => Some(2),
        "CharStorage" | "ByteStorage" | "BoolStorage" => Some(1),
        other => float_type(other).map(|stored| stored.size() as u64),
    }
}

/// All tensors of a state dict. `fetch` returns the values of a storage; one storage at a time is in memory.
fn assemble(
    pickle: &Pickle,
    file_length: u64,
    mut fetch: impl FnMut(&Storage, FloatType) -> Result<Vec<f32>, String>,
) -> Result<Contents, String> {
    let entries = pickle.state_dict()?;
    let mut contents = Contents::default();
    let mut by_storage: BTreeMap<&str, Vec<(&str, &Tensor)>> = BTreeMap::new();
    // f16 doubles in size as f32, and views may share values. Anything larger is an attack on the memory.
    let mut left = 4 * file_length + (1 << 20);
    // Charged because a name takes a few bytes of the file per entry, but is copied here.
    let charge = |name: &str| {
        let charged = pickle.budget.bytes(name.len() + size_of::<String>());
        charged.map_err(|error| error.to_string())
    };
    for (name, object) in entries {
        let shape = match object {
            Object::Tensor(tensor) if float_type(tensor.storage.kind).is_some() => {
                let views = by_storage.entry(tensor.storage.key).or_default();
                views.push((name, tensor));
                &tensor.shape
            }
            Object::Array(array) if float_type(array.dtype).is_some() => &array.shape,
            _ => {
                charge(name)?;
                contents.ignored.push(name.into());
                continue;
            }
        };
        let bytes = shape.iter().try_fold(4u64, |n, &s| n.checked_mul(s as u64));
        left = bytes
            .and_then(|bytes| left.checked_sub(bytes))
            .ok_or_else(|| format!("{} {shape:?} is larger than the file allows", excerpt(name)))?;
        charge(name)?;
        if let Object::Array(array) = object {
            let values = array_values(pickle, name, array)?;
            let data = TensorData::new(values, array.shape.clone());
            contents.tensors.insert(name.into(), data);
        }
    }
    for views in by_storage.values() {
        let storage = &views[0].1.storage;
        let stored = float_type(storage.kind).ok_or("a storage has an unknown type")?;
        let values = fetch(storage, stored)?;
        for (name, tensor) in views {
            if tensor.storage != *storage || values.len() as u64 != storage.count {
                let name = excerpt(name);
                return Err(format!(
                    "{name} has a storage that differs from its declaration"
                ));
            }
            let strides: Vec<usize> = tensor.strides.iter().map(|&s| s as usize).collect();
            let values = gather(&values, tensor.offset as usize, &tensor.shape, &strides);
            let data = TensorData::new(values, tensor.shape.clone());
            contents.tensors.insert(name.to_string(), data);
        }
    }
    Ok(contents)
}

fn array_values(pickle: &Pickle, name: &str, array: &Array) -> Result<Vec<f32>, String> {
    let name = excerpt(name);
    let bytes = match array.data.and_then(|index| pickle.objects.get(index)) {
        Some(Object::Bytes(bytes)) => bytes,
        _ => return Err(format!("{name} has no data")),
    };
    let stored = float_type(array.dtype).ok_or_else(|| format!("{name} is not floating-point"))?;
    if array.big_endian {
        return Err(format!(
            "{name} is big-endian: save it on a little-endian machine"
        ));
    }
    let wanted = array.shape.iter().product::<usize>() * stored.size();
    if bytes.len() != wanted {
        return Err(format!(
            "{name} {:?} has {} bytes",
            array.shape,
            bytes.len()
        ));
    }
    let strides = if array.fortran {
        column_major(&array.shape)
    } else {
        row_major(&array.shape)
    };
    Ok(gather(&stored.decode(bytes), 0, &array.shape, &strides))
}
