//! The training loop: steps, evaluations, checkpoints.

use super::checkpoint::Saved;
use super::state::Run;
use super::trainer::Trainer;
use crate::eval::Metrics;
use crate::model::MaskRcnn;
use crate::train::error::TrainError;
use crate::train::input::loader::Loader;
use crate::train::observer::Observer;
use crate::train::rank::Rank;
use crate::train::ranks::exchange;
use mrcnn_backends::failure::caught;
use std::path::PathBuf;

impl Trainer {
    /// Trains to the last step (or until the observer stops it), evaluating on the way and at the end.
    ///
    /// Where a step fails, the weights before it are in `last.safetensors`, if the device still gives
    /// them; checkpoints stay.
    pub fn run(&self, model: MaskRcnn, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        self.to_the_end(Run::start(self, model)?, observer)
    }

    /// Goes on from a checkpoint as if the run had never ended: on one machine's CPU, the same
    /// losses bit for bit.
    pub fn go_on(&self, saved: Saved, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        self.to_the_end(Run::resume(self, saved)?, observer)
    }

    fn to_the_end(
        &self,
        mut run: Run<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        let config = &self.config.train;
        let plan = self.plan(&run.model, observer);
        let rank = Rank::of(&*self.comm);
        let loader = Loader::start(self.train.clone(), &self.config, run.step, rank)?;
        while run.step < config.steps {
            if exchange::agree_to_stop(&*self.comm, run.step, observer.should_stop())? {
                let saved = run.checkpoint()?;
                self.comm.barrier()?;
                return Ok(Outcome::Stopped(saved));
            }
            if let Err(error) = caught(|| run.train_step(&loader, observer)) {
                // A failed device may not return them; the error of the step is the one that is reported.
                let _ = caught(|| run.save(&self.folder.last(), None));
                return Err(self.explained(error, run.step, &plan));
            }
            let due = |every: usize| every > 0 && run.step.is_multiple_of(every);
            let (evaluate, save) = (due(config.eval_every), due(config.checkpoint_every));
            if run.step < config.steps && (evaluate || save) {
                if evaluate {
                    let metrics = caught(|| run.evaluate(observer))?;
                    if config.patience > 0 && run.stale >= config.patience {
                        observer.on_early_stop(run.step, run.stale);
                        return self.finish(run, metrics);
                    }
                }
                run.checkpoint()?;
            }
        }
        let metrics = caught(|| run.evaluate(observer))?;
        self.finish(run, metrics)
    }

    fn finish(&self, mut run: Run<'_>, metrics: Metrics) -> Result<Outcome, TrainError> {
        run.finish(&metrics)?;
        run.checkpoint()?;
        // No rank leaves before rank 0 has written all.
        self.comm.barrier()?;
        Ok(Outcome::Finished(metrics))
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// After its last step, with the numbers of the last evaluation.
    Finished(Metrics),
    /// The observer stopped it; the checkpoint to resume from.
    Stopped(PathBuf),
}
