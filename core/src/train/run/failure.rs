//! Reports of memory before the first step, and of a failed step.

use super::dump::dump_batch;
use super::memory_plan::MemoryPlan;
use super::trainer::Trainer;
use crate::memory::{MemoryMeter, device_memory};
use crate::model::MaskRcnn;
use crate::train::error::TrainError;
use crate::train::input::loader::Loader;
use crate::train::observer::Observer;
use crate::train::rank::Rank;
use mrcnn_backends::failure::out_of_memory;

impl Trainer {
    /// Reports the memory that this rank of the run will need, with a warning if the machine has less.
    pub(crate) fn plan(&self, model: &MaskRcnn, observer: &mut dyn Observer) -> MemoryPlan {
        let mut config = self.config.clone();
        let batch_size = &mut config.train.batch_size;
        *batch_size = Rank::of(&*self.comm).shard(*batch_size).len().max(1);
        let is_cut = self.comm.overlaps();
        let plan = MemoryPlan::of_rank(model, &config, &self.train, is_cut);
        // A device with its own memory does not report how much of it is free.
        let shares_memory = device_memory(&self.device).is_none();
        let available = MemoryMeter::default().available();
        let available = available.filter(|_| shares_memory);
        let warning = available.and_then(|bytes| plan.warning(bytes));
        observer.on_plan(&plan, warning.as_deref());
        plan
    }

    /// Adds advice to an error of step `step` (from 0).
    pub(crate) fn explained(
        &self,
        error: TrainError,
        step: usize,
        plan: &MemoryPlan,
    ) -> TrainError {
        match error {
            TrainError::Device(source) => match out_of_memory(&source) {
                Some(reason) => TrainError::OutOfMemory {
                    reason,
                    plan: plan.to_string(),
                },
                None => TrainError::Device(source),
            },
            TrainError::NotFinite {
                step: at,
                loss,
                image_ids,
                ..
            } => TrainError::NotFinite {
                step: at,
                loss,
                image_ids,
                dump: self.dumped(step, at),
            },
            TrainError::Overflow {
                step: at,
                skipped,
                precision,
                scale,
                ..
            } => TrainError::Overflow {
                step: at,
                skipped,
                precision,
                scale,
                dump: self.dumped(step, at),
            },
            other => other,
        }
    }

    /// Waits for rank 0's dump and returns its description. All ranks have the same losses and get here; a rank that
    /// left early would end the others.
    fn dumped(&self, step: usize, at: usize) -> String {
        let dump = match self.comm.rank() {
            0 => self.dump(step, at),
            _ => String::new(),
        };
        // The error of the step is the one to report.
        let _ = self.comm.barrier();
        dump
    }

    /// Writes the whole batch of step `step`, which is a function of the seed; returns a description of the outcome.
    fn dump(&self, step: usize, at: usize) -> String {
        let folder = self.folder.not_finite(at);
        let again = Loader::start(self.train.clone(), &self.config, step, Rank::SINGLE);
        let batch = again.ok().and_then(|loader| loader.next_batch()?.ok());
        let image = &self.config.image;
        match batch.map(|batch| dump_batch(&folder, &batch, &self.train, image)) {
            Some(Ok(())) => format!("; the batch is in {}", folder.display()),
            Some(Err(error)) => format!("; the batch cannot be written: {error}"),
            None => "; the batch cannot be read again".into(),
        }
    }
}
