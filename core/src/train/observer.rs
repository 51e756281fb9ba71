//! What a run reports, and who follows it.

use super::run::memory_plan::MemoryPlan;
use super::step::losses::LossValues;
use crate::eval::Metrics;
use crate::report::Record;

/// Report of a training step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done.
    pub step: usize,
    /// Losses by name.
    pub losses: LossValues,
    /// Learning rate.
    pub learning_rate: f64,
    /// Gradient norm; not finite where the step was skipped for it.
    pub grad_norm: f32,
    /// Loss scale, if one was used.
    pub loss_scale: Option<f64>,
    /// Whether the loss or its gradient overflowed, and the weights are as before.
    pub skipped: bool,
    /// Images per second, this step, data included.
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
        self.losses.total()
    }

    /// The record of the step for the log.
    pub fn record(&self) -> Record {
        let losses = self.losses.named();
        Record::Step {
            step: self.step,
            lr: self.learning_rate,
            loss: self.loss(),
            losses: losses.map(|(name, value)| (name.into(), value)).collect(),
            grad_norm: self.grad_norm,
            loss_scale: self.loss_scale,
            skipped: self.skipped,
            images_per_second: self.images_per_second,
            data_wait: self.data_wait,
            exchange: self.exchange,
            seconds: self.seconds,
            memory_mb: megabytes(self.memory),
            device_memory_mb: self.device_memory.map(megabytes),
        }
    }
}

/// Follows a training run: logs it, stops it. Every method does nothing by default.
pub trait Observer {
    /// Before the first step: the memory estimate, and a warning if the machine may have less.
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

fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}
