//! One step of a run.

use super::state::Run;
use crate::memory::device_memory;
use crate::train::error::TrainError;
use crate::train::input::batch::Batch;
use crate::train::observer::{Observer, StepReport};
use crate::train::optim::loss_scale::MAX_SKIPPED;
use crate::train::optim::optimizer::StepOutcome;
use crate::train::optim::schedule::learning_rate;
use crate::train::ranks::exchange;
use crate::train::step::accumulate::accumulated_losses_and_gradients;
use mrcnn_backends::watchdog::operation;
use std::time::{Duration, Instant};

impl Run<'_> {
    /// Runs a step on a batch, for which the run began to wait at `started` and waited for `waited`.
    pub(crate) fn train_step(
        &mut self,
        batch: Batch,
        (started, waited): (Instant, Duration),
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let exchanged = self.trainer.comm.waited();
        let images = match self.trainer.comm.is_alone() {
            true => batch.image_ids.len(),
            false => self.trainer.config.train.batch_size,
        };
        let mut report = self.update(batch)?;
        self.step += 1;
        let seconds = started.elapsed().as_secs_f64();
        report.images_per_second = images as f64 / seconds;
        report.data_wait = waited.as_secs_f64() / seconds;
        let exchanged = self.trainer.comm.waited() - exchanged;
        report.exchange = exchanged.as_secs_f64() / seconds;
        report.seconds = seconds;
        report.memory = self.memory.process();
        report.device_memory = device_memory(&self.trainer.device);
        observer.on_step(&report);
        self.record(report.record())?;
        self.is_whole = true;
        Ok(())
    }

    /// Updates the weights with one batch; times and memory in the report stay 0.
    fn update(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        let _operation = operation(format!("training step {}", self.step + 1));
        let config = &self.trainer.config.train;
        let rate = learning_rate(self.step, config);
        let stream = self.sampling.fork(self.step as u64);
        let image_ids = batch.image_ids.clone();
        let (model, device) = (&self.model, &self.device);
        let comm = &*self.trainer.comm;
        let scale = self.scaler.factor();
        let (losses, gradients) = match (comm.is_alone(), config.accumulate) {
            (true, 1) => match &mut self.graphs {
                Some(graphs) => graphs.losses_and_gradients(model, batch, stream, device, scale)?,
                None => {
                    let replicas = &self.replicas;
                    replicas.losses_and_gradients(model, batch, stream, device, scale)?
                }
            },
            (true, n) => accumulated_losses_and_gradients(model, batch, n, stream, device, scale)?,
            (false, _) => {
                exchange::losses_and_gradients(comm, model, batch, stream, device, config, scale)?
            }
        };
        self.is_whole = false;
        self.is_updating = true;
        let outcome = match losses.is_finite() {
            true => self.optimizer.step(&mut self.model, gradients, rate),
            false => StepOutcome::SKIPPED,
        };
        self.is_updating = false;
        let report = StepReport {
            step: self.step + 1,
            losses,
            learning_rate: rate,
            grad_norm: outcome.grad_norm,
            loss_scale: self.scaler.state().map(|state| state.scale),
            is_skipped: !outcome.is_applied,
            images_per_second: 0.0,
            data_wait: 0.0,
            exchange: 0.0,
            seconds: 0.0,
            memory: 0,
            device_memory: None,
        };
        if report.is_skipped {
            // A step without finite losses changes nothing.
            self.is_whole = true;
            return self.skipped(report, image_ids);
        }
        self.scaler.applied();
        if config.check_ranks > 0 && report.step.is_multiple_of(config.check_ranks) {
            exchange::weights_must_agree(comm, &self.model, report.step)?;
        }
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model, self.step + 1);
        }
        Ok(report)
    }

    /// Handles a step whose loss or gradient is not finite: an error, unless a smaller loss scale may fix
    /// it.
    fn skipped(
        &mut self,
        report: StepReport,
        image_ids: Vec<u64>,
    ) -> Result<StepReport, TrainError> {
        let (step, loss, dump) = (report.step, report.loss(), String::new());
        match self.scaler.overflowed() {
            None => Err(TrainError::NotFinite {
                step,
                loss,
                image_ids,
                dump,
            }),
            Some(skipped) if skipped >= MAX_SKIPPED => Err(TrainError::Overflow {
                step,
                skipped,
                precision: self.trainer.precision.precision(),
                scale: report.loss_scale.unwrap_or(1.0),
                dump,
            }),
            Some(_) => Ok(report),
        }
    }
}
