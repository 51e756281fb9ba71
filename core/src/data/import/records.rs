//! TFRecord files and the `tf.Example` messages in them.
//!
//! The crate `tfrecord` (0.15, 2023) is not used, because it would add a second prost (0.12), ndarray and noisy_float.
//! A record is a length and bytes, each with a checksum, and prost is already a dependency.

use super::spec::ImportError;
use crate::crc::masked_crc;
use prost::Message;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// `tf.train.Example`.
#[derive(Clone, PartialEq, Message)]
pub struct Example {
    #[prost(message, optional, tag = "1")]
    pub features: Option<Features>,
}

/// `tf.train.Features`.
#[derive(Clone, PartialEq, Message)]
pub struct Features {
    #[prost(map = "string, message", tag = "1")]
    pub feature: HashMap<String, Feature>,
}

/// `tf.train.Feature`.
#[derive(Clone, PartialEq, Message)]
pub struct Feature {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    pub kind: Option<Kind>,
}

/// The list of a feature.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    #[prost(message, tag = "1")]
    Bytes(BytesList),
    #[prost(message, tag = "2")]
    Floats(FloatList),
    #[prost(message, tag = "3")]
    Ints(IntList),
}

#[derive(Clone, PartialEq, Message)]
pub struct BytesList {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub value: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FloatList {
    #[prost(float, repeated, tag = "1")]
    pub value: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct IntList {
    #[prost(int64, repeated, tag = "1")]
    pub value: Vec<i64>,
}

impl Example {
    fn kind(&self, key: &str) -> Option<&Kind> {
        self.features.as_ref()?.feature.get(key)?.kind.as_ref()
    }

    /// A list of bytes; empty if it is missing.
    pub fn bytes(&self, key: &str) -> &[Vec<u8>] {
        match self.kind(key) {
            Some(Kind::Bytes(list)) => &list.value,
            _ => &[],
        }
    }

    /// A list of floats; empty if it is missing.
    pub fn floats(&self, key: &str) -> &[f32] {
        match self.kind(key) {
            Some(Kind::Floats(list)) => &list.value,
            _ => &[],
        }
    }

    /// A list of integers; empty if it is missing.
    pub fn ints(&self, key: &str) -> &[i64] {
        match self.kind(key) {
            Some(Kind::Ints(list)) => &list.value,
            _ => &[],
        }
    }

    /// The first string of a list.
    pub fn text(&self, key: &str) -> Option<String> {
        let bytes = self.bytes(key).first()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Iterator over the records of a file.
pub struct Records<R> {
    path: PathBuf,
    reader: R,
    /// Remaining bytes.
    left: u64,
    number: usize,
}

impl Records<BufReader<File>> {
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let io = |error| ImportError::io(path, error);
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Ok(Self::new(path, BufReader::new(file), length))
    }
}

impl<R: Read> Records<R> {
    /// The records of `length` bytes; `path` is named in errors.
    pub fn new(path: &Path, reader: R, length: u64) -> Self {
        Self {
            path: path.into(),
            reader,
            left: length,
            number: 0,
        }
    }

    fn fault(&self, reason: &str) -> ImportError {
        ImportError::Source {
            path: format!("{}, record {}", self.path.display(), self.number),
            reason: format!("{reason}; copy the file again"),
        }
    }

    /// `length` bytes and their checksum.
    fn checked(&mut self, length: u64) -> Result<Vec<u8>, ImportError> {
        if length.saturating_add(4) > self.left {
            return Err(self.fault("the file ends within it, or its length is corrupted"));
        }
        self.left -= length + 4;
        let (mut bytes, mut crc) = (vec![0; length as usize], [0; 4]);
        let read = self.reader.read_exact(&mut bytes);
        read.and_then(|()| self.reader.read_exact(&mut crc))
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => self.fault("the file ends within it"),
                _ => ImportError::io(&self.path, error),
            })?;
        match crc == masked_crc(&bytes) {
            true => Ok(bytes),
            false => Err(self.fault("its checksum does not match")),
        }
    }

    fn read(&mut self) -> Result<Example, ImportError> {
        self.number += 1;
        let length = self.checked(8)?;
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        let bytes = self.checked(length)?;
        Example::decode(&bytes[..]).map_err(|error| self.fault(&error.to_string()))
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Example, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let record = self.read();
        // Records after a broken one cannot be located.
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}
