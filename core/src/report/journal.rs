//! The log files of a run and the files derived from them.

use super::csv::csv;
use super::dllogger::DllLog;
use super::metrics_log::{LogError, MetricsLog, read_whole_lines};
use super::plots::curves;
use super::record::Record;
use super::tensorboard::EventFile;
use crate::config::Config;
use std::io::Result;
use std::path::{Path, PathBuf};

/// The log of a run, and the files derived from it.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    csv: bool,
    log: MetricsLog,
    events: Option<EventFile>,
    dll: Option<DllLog>,
    records: Vec<Record>,
}

impl Journal {
    /// Starts the log in the folder of a run; `images` is the number of images per epoch.
    pub fn start(folder: &Path, config: &Config, images: usize) -> Result<Self> {
        let log = MetricsLog::open(&metrics(folder))?;
        Self::with(folder, config, images, log, Vec::new())
    }

    /// Continues after the first `bytes` of `metrics.jsonl`; the rest is truncated.
    pub fn resume(
        folder: &Path,
        config: &Config,
        images: usize,
        bytes: u64,
    ) -> std::result::Result<Self, LogError> {
        let path = metrics(folder);
        let io = |source| LogError::Io {
            path: path.clone(),
            source,
        };
        MetricsLog::truncate(&path, bytes).map_err(io)?;
        let (records, whole) = read_whole_lines(&path)?;
        let log = MetricsLog::truncate(&path, whole).map_err(io)?;
        Self::with(folder, config, images, log, records).map_err(io)
    }

    fn with(
        folder: &Path,
        config: &Config,
        images: usize,
        log: MetricsLog,
        records: Vec<Record>,
    ) -> Result<Self> {
        let step = records.last().map_or(0, Record::at);
        let tensorboard = config.log.tensorboard;
        let events = tensorboard.then(|| EventFile::create(&folder.join("tensorboard"), step));
        let dll = config.log.dllogger;
        let dll = dll.then(|| DllLog::open(&folder.join("dllogger.json"), config, images));
        Ok(Self {
            folder: folder.into(),
            csv: config.log.csv,
            log,
            events: events.transpose()?,
            dll: dll.transpose()?,
            records,
        })
    }

    /// Appends a record to every log.
    pub fn append(&mut self, record: Record) -> Result<()> {
        self.log.append(&record)?;
        if let Some(events) = &mut self.events {
            events.append(&record)?;
        }
        if let Some(dll) = &mut self.dll {
            dll.append(&record)?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Writes `curves.svg` and the CSV tables of all records so far.
    pub fn write_derived(&self) -> Result<()> {
        std::fs::write(self.folder.join("curves.svg"), curves(&self.records))?;
        if self.csv {
            let [steps, evaluations] = csv(&self.records);
            std::fs::write(self.folder.join("steps.csv"), steps)?;
            std::fs::write(self.folder.join("evaluations.csv"), evaluations)?;
        }
        Ok(())
    }

    /// Writes the final line of the logs that have one.
    pub fn finish(&mut self) -> Result<()> {
        let last = self.records.iter().rev();
        let last = last.clone().find(|r| matches!(r, Record::Eval { .. }));
        match (&mut self.dll, last) {
            (Some(dll), Some(record)) => dll.finish(record),
            _ => Ok(()),
        }
    }

    /// Whether the newest record is the evaluation of this step: that of a finished run, which is resumed.
    pub fn ends_with_evaluation(&self, step: usize) -> bool {
        let mut scored = self.records.iter().rev();
        let last = scored.find(|record| !matches!(record, Record::LeftOut { .. }));
        last.is_some_and(|last| matches!(last, Record::Eval { .. }) && last.at() == step)
    }

    /// Every record so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Length of `metrics.jsonl` in bytes, after syncing it to the disk.
    pub fn synced_length(&self) -> Result<u64> {
        self.log.synced_length()
    }
}

fn metrics(folder: &Path) -> PathBuf {
    folder.join("metrics.jsonl")
}
