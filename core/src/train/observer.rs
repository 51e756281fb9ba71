//! Reports of a run, and the trait that receives them.

use super::run::memory_plan::MemoryPlan;
use super::step::losses::LossValues;
use crate::eval::Metrics;
use crate::report::{LeftOutImage, Record};

/// Report of a training step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done.
    pub step: usize,
    /// Losses by name.
    pub losses: LossValues,
    /// Learning rate.
    pub learning_rate: f64,
    /// Gradient norm before clipping; not finite if the step was skipped because of it.
    pub grad_norm: f32,
    /// Loss scale, if one is used.
    pub loss_scale: Option<f64>,
    /// Whether the loss or its gradient overflowed and the step was skipped, which leaves the weights unchanged.
    pub is_skipped: bool,
    /// Images per second in this step, data loading included.
    pub images_per_second: f64,
    /// Fraction of the step spent waiting for data.
    pub data_wait: f64,
    /// Fraction of the step spent communicating with the other ranks, waiting for the slowest included.
    pub exchange: f64,
    /// Duration of the step, data loading included.
    pub seconds: f64,
    /// Resident memory of the process in bytes.
    pub memory: u64,
    /// Bytes reserved on the device, if it has memory of its own.
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
            skipped: self.is_skipped,
            images_per_second: self.images_per_second,
            data_wait: self.data_wait,
            exchange: self.exchange,
            seconds: self.seconds,
            memory_mb: megabytes(self.memory),
            device_memory_mb: self.device_memory.map(megabytes),
        }
    }
}

/// Receiver of the reports of a training run, which can also stop it. Every method does nothing by default.
pub trait Observer {
    /// Called before the first step with the memory estimate, and a warning if the machine may have too little.
    fn on_plan(&mut self, _plan: &MemoryPlan, _warning: Option<&str>) {}
    /// Called after every step.
    fn on_step(&mut self, _report: &StepReport) {}
    /// Called for every image that cannot be used and is left out during the run, once, with the number of images that
    /// are left out so far.
    fn on_left_out(&mut self, _image: &LeftOutImage, _count: usize) {}
    /// Called during an evaluation with the number of images done and their total.
    fn on_eval_progress(&mut self, _done: usize, _all: usize) {}
    /// Called after every evaluation with the number of steps done and the COCO metrics.
    fn on_eval(&mut self, _step: usize, _metrics: &Metrics) {}
    /// Called before the results of the last evaluation are written, if `train.patience` ends the run early.
    fn on_early_stop(&mut self, _step: usize, _evaluations: usize) {}
    /// Called before every step and between the batches of an evaluation; `true` stops the run, which saves a
    /// checkpoint first.
    fn should_stop(&self) -> bool {
        false
    }
    /// Called before every step; `true` saves a checkpoint, and the run continues.
    fn should_save(&mut self) -> bool {
        false
    }
}

/// An observer that does nothing.
impl Observer for () {}

fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}
