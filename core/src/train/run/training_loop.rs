//! The training loop: steps, evaluations, checkpoints.

use super::checkpoint::Saved;
use super::state::Run;
use super::trainer::Trainer;
use crate::eval::Metrics;
use crate::evaluate::usable::left_out_of_all;
use crate::model::MaskRcnn;
use crate::train::error::{LoadError, TrainError};
use crate::train::input::batch::Batch;
use crate::train::input::loader::Loader;
use crate::train::observer::Observer;
use crate::train::rank::Rank;
use crate::train::ranks::exchange::{self, NextAction};
use mrcnn_backends::failure::caught;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl Trainer {
    /// Trains to the last step, or until the observer stops the run; evaluates periodically and at the end.
    ///
    /// If a step fails, a checkpoint of the steps before it is written, if the device can still return them; if
    /// only the weights can be saved, they are in `last.safetensors`.
    pub fn run(&self, model: MaskRcnn, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        self.run_to_end(Run::start(self, model)?, observer)
    }

    /// Resumes from a checkpoint as if the run had never ended: on the CPU of the same machine, the losses are
    /// bit-equal.
    pub fn run_from(
        &self,
        saved: Saved,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        self.run_to_end(Run::resume(self, saved)?, observer)
    }

    fn run_to_end(
        &self,
        mut run: Run<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let config = &self.config.train;
        let plan = self.plan(&run.model, observer);
        let rank = Rank::of(&*self.comm);
        let loader = Loader::start(self.train.clone(), &self.config, run.step, rank)?;
        run.checkpoint_bytes = plan.checkpoint();
        run.check_room()?;
        if run.evaluation_due {
            // A run that was stopped during the evaluation after its newest checkpoint.
            let saved = self.folder.checkpoint(run.step);
            if let Some(outcome) = self.evaluate(&mut run, &saved, observer)? {
                return Ok(outcome);
            }
        }
        while run.step < config.steps {
            if observer.should_save() {
                run.checkpoint(false)?;
            }
            let (started, stop) = (Instant::now(), observer.should_stop());
            let batch = match stop {
                true => Err(LoadError::nothing_left(&[])),
                false => (loader.next_batch()).unwrap_or(Err(LoadError::nothing_left(&[]))),
            };
            let waited = started.elapsed();
            let has_failed = !stop && batch.is_err();
            let left_out = match &batch {
                Ok(batch) => run.newly_left_out("train", &batch.left_out),
                Err(_) => Vec::new(),
            };
            match exchange::agree(&*self.comm, run.step, stop, has_failed, left_out.len())? {
                NextAction::Step { left_out: false } => {}
                NextAction::Step { left_out: true } => {
                    let left_out = left_out_of_all(&*self.comm, left_out)?;
                    run.leave_out("train", &left_out, observer)?;
                }
                NextAction::Stop => {
                    let saved = run.checkpoint(false)?;
                    self.comm.barrier()?;
                    return Ok(Outcome::Stopped(saved));
                }
                NextAction::Failed(ranks) => return Err(self.without_batch(&run, &ranks, batch)),
            }
            let batch = batch?;
            if let Err(error) = caught(|| run.train_step(batch, (started, waited), observer)) {
                run.rescue();
                return Err(self.explained(error, run.step, &plan));
            }
            let due = |every: usize| every > 0 && run.step.is_multiple_of(every);
            let last = run.step >= config.steps;
            if last || due(config.eval_every) {
                let saved = run.checkpoint(true)?;
                if let Some(outcome) = self.evaluate(&mut run, &saved, observer)? {
                    return Ok(outcome);
                }
            } else if due(config.checkpoint_every) {
                run.checkpoint(false)?;
            }
        }
        // A run that had already finished.
        let saved = match self.folder.checkpoint(run.step) {
            saved if saved.exists() => saved,
            _ => run.checkpoint(true)?,
        };
        match self.evaluate(&mut run, &saved, observer)? {
            Some(outcome) => Ok(outcome),
            None => Ok(Outcome::Stopped(saved)),
        }
    }

    /// Writes a checkpoint if ranks have no batch for the next step, and returns the error of this rank.
    fn without_batch(
        &self,
        run: &Run<'_>,
        ranks: &[usize],
        batch: Result<Batch, LoadError>,
    ) -> TrainError {
        run.rescue();
        let mine = batch.err().map(TrainError::from);
        if self.comm.is_alone() {
            return mine.unwrap_or(TrainError::Load(LoadError::nothing_left(&[])));
        }
        let shown = mine.as_ref().map(ToString::to_string).unwrap_or_default();
        // A rank that leaves ends the others: rank 0 must have written its checkpoint, and all must have the reason.
        let reason = exchange::reason_of(&*self.comm, ranks, &shown);
        match (mine, reason) {
            (Some(error), _) => error,
            (None, Ok(reason)) => TrainError::OtherRank {
                rank: ranks.first().copied().unwrap_or_default(),
                reason,
            },
            (None, Err(error)) => error.into(),
        }
    }

    /// Evaluates the step of the checkpoint `saved`; returns the outcome if the run has ended.
    fn evaluate(
        &self,
        run: &mut Run<'_>,
        saved: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Option<Outcome>, TrainError> {
        let metrics = match caught(|| run.evaluate(observer)) {
            Ok(metrics) => metrics,
            // The checkpoint records that its evaluation is due.
            Err(TrainError::Interrupted) => {
                self.comm.barrier()?;
                return Ok(Some(Outcome::Stopped(saved.into())));
            }
            Err(error) => return Err(error),
        };
        run.note_evaluation(saved)?;
        let config = &self.config.train;
        let last = run.step >= config.steps;
        let stale = config.patience > 0 && run.stale >= config.patience;
        if stale && !last {
            observer.on_early_stop(run.step, run.stale);
        }
        if !(stale || last) {
            return Ok(None);
        }
        run.finish(&metrics)?;
        // No rank leaves before rank 0 has written everything.
        self.comm.barrier()?;
        Ok(Some(Outcome::Finished(metrics)))
    }
}

/// Outcome of a run.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// After its last step, with the metrics of the last evaluation.
    Finished(Metrics),
    /// The observer stopped it; the path is the checkpoint to resume from.
    Stopped(PathBuf),
}
