//! `metrics.jsonl`: one JSON object per line, for each step and evaluation.

use super::record::Record;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// An open log file for appending records.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    bytes: u64,
}

impl MetricsLog {
    /// Opens or creates a log.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// Opens a log and truncates it to its first `bytes`.
    pub fn truncate(path: &Path, bytes: u64) -> std::io::Result<Self> {
        let mut log = Self::open(path)?;
        log.bytes = log.bytes.min(bytes);
        log.file.set_len(log.bytes)?;
        Ok(log)
    }

    /// Its length in bytes, after syncing it to the disk.
    pub fn synced_length(&self) -> std::io::Result<u64> {
        self.file.sync_data()?;
        Ok(self.bytes)
    }

    /// Appends a line, in one write so that a killed process leaves complete lines.
    pub fn append(&mut self, record: &Record) -> std::io::Result<()> {
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Errors of reading a log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A line is not a valid record.
    #[error("{path}:{line}: {reason}; delete the line to continue")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The error of the JSON parser.
        reason: String,
    },
}

/// Reads all records of a log.
pub fn read_log(path: &Path) -> Result<Vec<Record>, LogError> {
    let io_error = |source| LogError::Io {
        path: path.into(),
        source,
    };
    let file = BufReader::new(File::open(path).map_err(io_error)?);
    file.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(&line.map_err(io_error)?).map_err(|error| LogError::Line {
                path: path.into(),
                line: index + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}
