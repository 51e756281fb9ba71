//! The training loop: steps, evaluations, checkpoints.

use super::checkpoint::Saved;
use super::folder::RunFolder;
use super::memory_plan::MemoryPlan;
use super::state::Run;
use crate::config::Config;
use crate::data::Dataset;
use crate::eval::{AreaProtocol, Metrics};
use crate::model::MaskRcnn;
use crate::train::error::TrainError;
use crate::train::input::loader::Loader;
use crate::train::ranks::exchange::{self, Rank};
use burn::tensor::Device;
use mrcnn_backends::Resolved;
use mrcnn_backends::comm::Communicator;
use mrcnn_backends::failure::caught;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done.
    pub step: usize,
    /// Losses in the order of [`Losses::NAMES`](crate::train::Losses::NAMES).
    pub losses: [f32; 5],
    /// Learning rate.
    pub learning_rate: f64,
    /// Length of the gradient; not finite where the step was skipped for it.
    pub grad_norm: f32,
    /// By what the loss was multiplied, where it was.
    pub loss_scale: Option<f64>,
    /// Whether the loss or its gradient overflowed, and the weights are as before.
    pub skipped: bool,
    /// Pictures a second, this step, data included.
    pub images_per_second: f64,
    /// Share of the step spent waiting for data.
    pub data_wait: f64,
    /// Share of the step spent exchanging with the other ranks, waiting for the slowest included.
    pub exchange: f64,
    /// Duration of the step, data included.
    pub seconds: f64,
    /// Bytes of the process.
    pub memory: u64,
    /// Bytes reserved on the device, where it has memory of its own.
    pub device_memory: Option<u64>,
}

impl StepReport {
    /// The sum of the losses.
    pub fn loss(&self) -> f32 {
        self.losses.iter().sum()
    }
}

/// Follows a training run: logs it, stops it. Each method does nothing unless it is written.
pub trait Observer {
    /// Before the first step: what the run will need in memory, and a warning where it may not be there.
    fn on_plan(&mut self, _plan: &MemoryPlan, _warning: Option<&str>) {}
    /// After every step.
    fn on_step(&mut self, _report: &StepReport) {}
    /// During an evaluation: images done, of how many.
    fn on_eval_progress(&mut self, _done: usize, _all: usize) {}
    /// After every evaluation: steps done, and the COCO numbers.
    fn on_eval(&mut self, _step: usize, _metrics: &Metrics) {}
    /// Before the last evaluation's results are written, where `train.patience` ends the run early.
    fn on_early_stop(&mut self, _step: usize, _evaluations: usize) {}
    /// Asked before every step and between the batches of an evaluation; true ends the run, which saves a
    /// checkpoint first.
    fn should_stop(&self) -> bool {
        false
    }
    /// Asked before every step; true saves a checkpoint, and the run continues.
    fn should_save(&mut self) -> bool {
        false
    }
}

/// Follows nothing.
impl Observer for () {}

/// A training run, from [`Trainer::builder`].
pub struct Trainer {
    /// The configuration, `model.num_classes` set.
    pub config: Config,
    /// What is trained on.
    pub train: Arc<Dataset>,
    /// What is evaluated on.
    pub val: Arc<Dataset>,
    /// Where results go.
    pub folder: RunFolder,
    /// Where it runs, without autodiff.
    pub device: Device,
    /// What it computes in there.
    pub precision: Resolved,
    /// How masks are sorted by size.
    pub protocol: AreaProtocol,
    /// The ranks that share each step's pictures; rank 0 writes.
    pub comm: Arc<dyn Communicator>,
}

impl Trainer {
    /// A model with initial weights for this run.
    pub fn new_model(&self) -> MaskRcnn {
        let device = self.device.clone().autodiff();
        let model = MaskRcnn::new(&self.config.model, self.config.train.seed, &device);
        model.with_precision(self.precision)
    }

    /// Trains to the last step (or until told to stop), evaluating on the way and at the end.
    ///
    /// Where a step fails, a checkpoint of the steps before it is written, if the device still gives them; where
    /// only the weights are left, they are in `last.safetensors`.
    pub fn run(&self, model: MaskRcnn, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        self.to_the_end(Run::start(self, model)?, observer)
    }

    /// Goes on from a checkpoint as if the run had never ended: on one machine's processor, the same
    /// losses bit for bit.
    pub fn go_on(&self, saved: Saved, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        self.to_the_end(Run::resume(self, saved)?, observer)
    }

    pub(crate) fn io_error(&self, source: std::io::Error) -> TrainError {
        TrainError::Io {
            path: self.folder.path().into(),
            source,
        }
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
        run.checkpoint_bytes = plan.checkpoint();
        run.check_room()?;
        if run.evaluation_due {
            // A run that was ended during the evaluation after its newest checkpoint.
            let saved = self.folder.checkpoint(run.step);
            if let Some(outcome) = self.evaluate(&mut run, &saved, observer)? {
                return Ok(outcome);
            }
        }
        while run.step < config.steps {
            if observer.should_save() {
                run.checkpoint(false)?;
            }
            if exchange::agree_to_stop(&*self.comm, run.step, observer.should_stop())? {
                let saved = run.checkpoint(false)?;
                self.comm.barrier()?;
                return Ok(Outcome::Stopped(saved));
            }
            if let Err(error) = caught(|| run.train_step(&loader, observer)) {
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
        // A run that was finished before.
        let saved = match self.folder.checkpoint(run.step) {
            saved if saved.exists() => saved,
            _ => run.checkpoint(true)?,
        };
        match self.evaluate(&mut run, &saved, observer)? {
            Some(outcome) => Ok(outcome),
            None => Ok(Outcome::Stopped(saved)),
        }
    }

    /// Evaluates the step of the checkpoint `saved`; how the run ended, if it did.
    fn evaluate(
        &self,
        run: &mut Run<'_>,
        saved: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Option<Outcome>, TrainError> {
        let metrics = match caught(|| run.evaluate(observer)) {
            Ok(metrics) => metrics,
            // The checkpoint knows that its evaluation is due.
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
        run.note_evaluation(saved)?;
        // No rank leaves before rank 0 has written all.
        self.comm.barrier()?;
        Ok(Some(Outcome::Finished(metrics)))
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// After its last step, with the numbers of the last evaluation.
    Finished(Metrics),
    /// As the observer wanted; the checkpoint to go on from.
    Stopped(PathBuf),
}
