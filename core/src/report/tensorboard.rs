//! TensorBoard event files.
//!
//! The three messages are defined here, because existing crates depend on all messages of TensorFlow. Source:
//! tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto and
//! tensorflow/core/lib/io/record_writer.h.

use super::record::Record;
use crate::crc::masked_crc;
use prost::Message;
use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// `Event`, the record of an event file.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `Summary.Value` with a plain number.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    /// Part of a `oneof`, so a value of 0 must be written.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.START` invalidates this step and later ones in earlier files.
const START: i32 = 1;

/// An event file of a run.
#[derive(Debug)]
pub struct EventFile {
    file: BufWriter<File>,
}

impl EventFile {
    /// Creates a file in `folder` for the steps after `step`.
    pub fn create(folder: &Path, step: usize) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let seconds = now();
        let process = std::process::id();
        // TensorBoard reads the files of a folder in the order of their names.
        let path = |n: u32| {
            folder.join(format!(
                "events.out.tfevents.{:.0}.mrcnn.{process}.{n}",
                seconds
            ))
        };
        let number = (0..).find(|&n| !path(n).exists()).unwrap_or(0);
        let mut events = Self {
            file: BufWriter::new(File::create(path(number))?),
        };
        events.write(&Event {
            wall_time: seconds,
            file_version: Some("brain.Event:2".into()),
            ..Event::default()
        })?;
        events.write(&Event {
            wall_time: seconds,
            step: step as i64 + 1,
            session_log: Some(SessionLog { status: START }),
            ..Event::default()
        })?;
        events.file.flush()?;
        Ok(events)
    }

    /// Appends the values of a record. Values of an evaluation are flushed to the disk.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let values = record.scalars();
        if values.is_empty() {
            return Ok(());
        }
        let values = values.into_iter();
        let value = values.map(|(tag, value)| Value {
            tag,
            simple_value: Some(value as f32),
        });
        self.write(&Event {
            wall_time: now(),
            step: record.at() as i64,
            summary: Some(Summary {
                value: value.collect(),
            }),
            ..Event::default()
        })?;
        let is_eval = matches!(record, Record::Eval { .. });
        if is_eval || record.at().is_multiple_of(FLUSH_EVERY) {
            self.file.flush()?;
        }
        Ok(())
    }

    /// Writes a TFRecord: length, checksum of the length, message, checksum of the message.
    fn write(&mut self, event: &Event) -> Result<()> {
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked_crc(&length))?;
        self.file.write_all(&message)?;
        self.file.write_all(&masked_crc(&message))
    }
}

/// Interval between flushes in steps; a killed run can lose this many steps of the event file.
const FLUSH_EVERY: usize = 20;

fn now() -> f64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
