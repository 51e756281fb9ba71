//! TensorFlow's index files: the sorted string table of LevelDB, uncompressed.
//!
//! The `sstable` crate (which the tests write with) is not used, because it does not check lengths and panics on a
//! damaged file. Source: leveldb/doc/table_format.md.

use crate::budget::Budget;
use crate::crc::masked_crc;

/// Bytes at the end of a table: two block handles, padding, the magic number.
const FOOTER: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Bytes after each block: its compression and its checksum.
const TRAILER: usize = 5;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// All keys with their values, in order.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let start = bytes.len().checked_sub(FOOTER).ok_or("it is too short")?;
    let mut footer = &bytes[start..];
    if footer[FOOTER - 8..] != MAGIC.to_le_bytes() {
        return Err("it does not end like a table: the file may be truncated".into());
    }
    let _meta = handle(&mut footer)?;
    let index = handle(&mut footer)?;
    // Keys share a prefix with the one before them, and blocks may be referenced many times.
    let budget = Budget::for_file(bytes.len() as u64);
    let mut blocks = Vec::new();
    block(bytes, index, &budget, &mut blocks)?;
    let mut entries = Vec::new();
    for (_, value) in blocks {
        let place = handle(&mut value.as_slice())?;
        block(bytes, place, &budget, &mut entries)?;
    }
    Ok(entries)
}

/// Maximum number of entries; a checkpoint with its optimizer has 2,000.
const MAX_ENTRIES: usize = 200_000;

/// Offset and length of a block.
fn handle(bytes: &mut &[u8]) -> Result<(usize, usize), String> {
    Ok((varint(bytes)?, varint(bytes)?))
}

fn varint(bytes: &mut &[u8]) -> Result<usize, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a number is truncated")?;
        *bytes = rest;
        value |= ((byte & 0x7f) as u64) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).map_err(|error| error.to_string());
        }
    }
    Err("a number is too long".into())
}

/// Adds the entries of a block; keys share a prefix with the one before them.
fn block(
    bytes: &[u8],
    (offset, length): (usize, usize),
    budget: &Budget,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    let over = |error: crate::budget::OverBudget| error.to_string();
    budget.work(length).map_err(over)?;
    let end = offset
        .checked_add(length)
        .and_then(|end| end.checked_add(TRAILER));
    let whole = end.and_then(|end| bytes.get(offset..end));
    let whole = whole.ok_or_else(|| format!("a block at {offset} reaches beyond its end"))?;
    let (checked, sum) = whole.split_at(length + 1);
    if masked_crc(checked) != sum {
        return Err(format!("the block at {offset} is damaged (checksum)"));
    }
    if checked[length] != 0 {
        return Err("it is compressed, which TensorFlow's checkpoints are not".into());
    }
    let content = &checked[..length];
    let (_, count) = content.split_last_chunk().ok_or("a block is too short")?;
    let restarts = (u32::from_le_bytes(*count) as usize)
        .checked_mul(4)
        .and_then(|size| content.len().checked_sub(size + 4));
    let mut rest = &content[..restarts.ok_or("a block has too many restarts")?];
    let mut key = Vec::new();
    while !rest.is_empty() {
        let (shared, own, value) = (varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?);
        let size = own.checked_add(value);
        let found = size.and_then(|size| rest.split_at_checked(size));
        let (found, after) = found.ok_or("an entry reaches beyond its block")?;
        if shared > key.len() {
            return Err("a key shares more bytes than the key before it has".into());
        }
        if shared.saturating_add(own) > LONGEST_KEY {
            return Err(format!("a key has more than {LONGEST_KEY} bytes"));
        }
        if entries.len() >= MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} entries"));
        }
        budget.values::<Entry>(1).map_err(over)?;
        budget.bytes(shared + own + value).map_err(over)?;
        key.truncate(shared);
        key.extend_from_slice(&found[..own]);
        entries.push((key.clone(), found[own..].to_vec()));
        rest = after;
    }
    Ok(())
}

/// Maximum length of a key; names of variables are shorter, and a longer one could be repeated for every entry.
const LONGEST_KEY: usize = 4096;
