//! Annotations on their way through the checks.

use crate::data::entries::{Batch, Checked, Limits, Table};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Pipeline of the annotation checks: annotations are parsed and rasterized by several threads if there are many.
pub(super) struct Checks {
    pub batch: Batch,
    pub table: Option<Arc<Table>>,
    pub limits: Arc<Limits>,
    threads: usize,
    running: VecDeque<JoinHandle<Result<Vec<Checked>, String>>>,
    finished: Vec<Vec<Checked>>,
}

impl Checks {
    pub fn new(file_length: u64, repair: bool) -> Self {
        Self {
            batch: Batch::default(),
            table: None,
            limits: Arc::new(Limits::new(file_length, repair)),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            running: VecDeque::new(),
            finished: Vec::new(),
        }
    }

    /// Passes the batch to a thread.
    pub fn start(&mut self) -> Result<(), String> {
        let batch = std::mem::take(&mut self.batch);
        let table = self.table.clone().unwrap_or_default();
        let limits = self.limits.clone();
        if self.threads == 1 {
            self.finished.push(batch.check(&table, &limits)?);
            return Ok(());
        }
        // One more than there are cores, so that no core waits.
        while self.running.len() > self.threads {
            self.join_oldest()?;
        }
        self.running
            .push_back(std::thread::spawn(move || batch.check(&table, &limits)));
        Ok(())
    }

    fn join_oldest(&mut self) -> Result<(), String> {
        if let Some(oldest) = self.running.pop_front() {
            let checked = oldest
                .join()
                .map_err(|_| "an annotation could not be checked".to_string())?;
            self.finished.push(checked?);
        }
        Ok(())
    }

    /// The checked annotations in the order of the file.
    pub fn finish(&mut self) -> Result<Vec<Checked>, String> {
        if self.running.is_empty() {
            let table = self.table.clone().unwrap_or_default();
            let checked = std::mem::take(&mut self.batch).check(&table, &self.limits)?;
            self.finished.push(checked);
        } else {
            self.start()?;
            while !self.running.is_empty() {
                self.join_oldest()?;
            }
        }
        Ok(std::mem::take(&mut self.finished)
            .into_iter()
            .flatten()
            .collect())
    }
}
