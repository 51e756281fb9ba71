//! Pipeline of the annotation checks.

use crate::data::entries::{Batch, Checked, Limits, Table};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Annotations that are parsed and rasterized in batches, by several threads if there are many.
pub(super) struct Checks {
    batch: Batch,
    /// The images, once they are known; annotations wait for them.
    pub table: Option<Arc<Table>>,
    pub limits: Arc<Limits>,
    threads: usize,
    /// Full batches that were read before the images.
    waiting: Vec<Batch>,
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
            waiting: Vec::new(),
            running: VecDeque::new(),
            finished: Vec::new(),
        }
    }

    /// Adds the text of an annotation, and passes the batch to a thread if it is full and the images are known.
    pub fn push(&mut self, text: &[u8], place: (u64, u64), index: usize) -> Result<(), String> {
        if self.batch.push(text, place, index) {
            let batch = std::mem::take(&mut self.batch);
            match self.table {
                Some(_) => self.start(batch)?,
                None => self.waiting.push(batch),
            }
        }
        Ok(())
    }

    fn start(&mut self, batch: Batch) -> Result<(), String> {
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
        for batch in std::mem::take(&mut self.waiting) {
            self.start(batch)?;
        }
        // The last batch is checked on this thread, in parallel with the others; small files have no other batch.
        let table = self.table.clone().unwrap_or_default();
        let last = std::mem::take(&mut self.batch).check(&table, &self.limits);
        while !self.running.is_empty() {
            self.join_oldest()?;
        }
        self.finished.push(last?);
        Ok(std::mem::take(&mut self.finished)
            .into_iter()
            .flatten()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_checked_while_the_file_is_read() {
        const COUNT: usize = 40;
        let text = format!(
            "{{\"id\": 1, \"image_id\": 1, \"x\": \"{}\"}}",
            "x".repeat(100_000)
        );
        for (knows_images, least) in [(true, 3), (false, 0)] {
            let mut checks = Checks::new(100 << 20, false);
            checks.table = knows_images.then(Arc::default);
            for index in 0..COUNT {
                checks.push(text.as_bytes(), (1, 1), index).unwrap();
            }
            let started = checks.running.len() + checks.finished.len();
            assert!(started >= least && checks.waiting.is_empty() == knows_images);
            let checked = checks.finish().unwrap();
            let order: Vec<usize> = checked.iter().map(|checked| checked.index).collect();
            assert_eq!(order, Vec::from_iter(0..COUNT));
        }
    }
}
