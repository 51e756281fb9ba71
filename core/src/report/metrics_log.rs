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

/// The records of a log, and the bytes that they take. An incomplete last line, left by a process that ended while it
/// wrote, is left out.
pub(super) fn read_whole_lines(path: &Path) -> Result<(Vec<Record>, u64), LogError> {
    let io_error = |source| LogError::Io {
        path: path.into(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(io_error)?);
    let (mut records, mut bytes, mut line) = (Vec::new(), 0, Vec::new());
    let mut broken: Option<LogError> = None;
    loop {
        line.clear();
        let length = file.read_until(b'\n', &mut line).map_err(io_error)?;
        if length == 0 {
            return Ok((records, bytes));
        }
        // Another line follows the broken one: it was not the last.
        if let Some(broken) = broken.take() {
            return Err(broken);
        }
        let is_whole = line.ends_with(b"\n");
        match serde_json::from_slice(&line) {
            Ok(record) if is_whole => {
                records.push(record);
                bytes += length as u64;
            }
            Ok(_) => return Ok((records, bytes)),
            Err(error) => {
                broken = Some(LogError::Line {
                    path: path.into(),
                    line: records.len() + 1,
                    reason: error.to_string(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &[u8]) -> Result<(usize, u64), LogError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        read_whole_lines(&path).map(|(records, bytes)| (records.len(), bytes))
    }

    #[test]
    fn a_broken_last_line_is_cut_and_any_other_is_named() {
        let good = concat!(
            r#"{"kind":"step","step":1,"lr":0.1,"loss":1.0,"loss_mask":1.0,"grad_norm":1.0,"#,
            r#""images_per_second":1.0,"data_wait":0.0}"#,
            "\n"
        );
        let bytes = good.len() as u64;
        assert_eq!(log(good.as_bytes()).unwrap(), (1, bytes));
        let cut = [good, &good[..40]].concat();
        assert_eq!(log(cut.as_bytes()).unwrap(), (1, bytes));
        let without_end = [good, good.trim_end()].concat();
        assert_eq!(log(without_end.as_bytes()).unwrap(), (1, bytes));
        assert_eq!(log(b"").unwrap(), (0, 0));
        assert_eq!(log(b"{\"step\": 1, \"lo").unwrap(), (0, 0));
        assert_eq!(log(b"\xff\xfe\n").unwrap(), (0, 0));
        let error = log(b"{\"step\": 1, \"lo\n{}\n").unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl:1:"), "{error}");
    }

    #[test]
    fn images_that_are_left_out_are_a_record_of_their_own() {
        use crate::report::LeftOutImage;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let record = Record::LeftOut {
            step: 0,
            count: 1,
            images: vec![LeftOutImage {
                split: "val".into(),
                image_id: 7,
                file: "val/7.jpg".into(),
                reason: "truncated".into(),
            }],
        };
        MetricsLog::open(&path).unwrap().append(&record).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("{\"kind\":\"left_out\",\"step\":0,\"count\":1,"),
            "{text}"
        );
        assert_eq!(read_whole_lines(&path).unwrap().0, [record]);
    }
}
