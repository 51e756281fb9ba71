//! TensorFlow checkpoints in the format of `tf.train.Saver`; the `sstable` crate writes the table.

use crate::protobuf::{field, masked_crc, message};
use crate::torch_file::Named;
use sstable::{CompressionType, Options, TableBuilder};
use std::path::Path;

/// Writes `prefix.index` and `prefix.data-00000-of-00001`.
pub fn write(prefix: &Path, variables: &[Named]) {
    let mut sorted: Vec<&Named> = variables.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let options = Options {
        compression_type: CompressionType::CompressionNone,
        ..Options::default()
    };
    let mut index = Vec::new();
    let mut table = TableBuilder::new_no_filter(options, &mut index);
    // One data file, little-endian.
    table.add(b"", &field(1, 1)).expect("a key");
    let mut data: Vec<u8> = Vec::new();
    let mut entries = Vec::new();
    for (name, shape, values) in sorted {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        entries.push((name, entry(shape, data.len(), &bytes)));
        data.extend(bytes);
    }
    for (name, entry) in entries {
        table.add(name.as_bytes(), &entry).expect("sorted keys");
    }
    let path = |suffix: &str| format!("{}{suffix}", prefix.display());
    table.finish().expect("memory");
    std::fs::write(path(".index"), index).expect("a folder");
    std::fs::write(path(".data-00000-of-00001"), data).expect("a folder");
}

/// `BundleEntryProto` of f32 numbers.
fn entry(shape: &[usize], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut dims = Vec::new();
    for &length in shape {
        dims.extend(message(2, &field(1, length as u64)));
    }
    let crc = masked_crc(bytes);
    let mut entry = field(1, 1);
    entry.extend(message(2, &dims));
    entry.extend(field(4, offset as u64));
    entry.extend(field(5, bytes.len() as u64));
    entry.push(6 << 3 | 5);
    entry.extend(crc.to_le_bytes());
    entry
}
