//! The state of a running training: weights, optimizer, log.

use super::checkpoint::{Evaluated, Progress, Saved, Snapshot, check_room};
use super::trainer::Trainer;
use super::val_loss::validation_losses;
use crate::eval::Metrics;
use crate::evaluate::gathered::detections_of_all;
use crate::evaluate::{DatasetDetections, draw_predictions, evaluate_over_ranks};
use crate::memory::MemoryMeter;
use crate::model::MaskRcnn;
use crate::predict::Predictor;
use crate::random::Stream;
use crate::report::{Journal, LeftOutImage, Record};
use crate::train::error::{CheckpointError, TrainError};
use crate::train::observer::Observer;
use crate::train::optim::ema::Ema;
use crate::train::optim::loss_scale::LossScaler;
use crate::train::optim::optimizer::Optimizer;
use crate::train::ranks::exchange;
use crate::train::step::graph::StepGraphs;
use crate::train::step::replicas::Replicas;
use crate::weights::{self, TrainingRecord, load_state_dict};
use burn::module::Module;
use burn::tensor::Device;
use mrcnn_backends::failure::caught;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The state of a running training.
pub(crate) struct Run<'a> {
    pub(crate) trainer: &'a Trainer,
    pub(crate) device: Device,
    pub(crate) model: MaskRcnn,
    pub(crate) replicas: Replicas,
    /// The recorded steps; `None` unless `train.graph` is set.
    pub(crate) graphs: Option<StepGraphs>,
    pub(crate) optimizer: Optimizer,
    pub(crate) scaler: LossScaler,
    pub(crate) sampling: Stream,
    pub(crate) ema: Option<Ema>,
    /// Steps done.
    pub(crate) step: usize,
    best: Option<f64>,
    /// Evaluations since the best one.
    pub(crate) stale: usize,
    /// On rank 0 only.
    journal: Option<Journal>,
    pub(crate) memory: MemoryMeter,
    /// This rank's results of the last evaluation.
    found: DatasetDetections,
    /// The images that are left out so far.
    pub(super) left_out: Vec<LeftOutImage>,
    /// Whether weights, optimizer and log all belong to `step`, so that a checkpoint of them is consistent.
    pub(super) is_whole: bool,
    /// Whether the optimizer is running: if it fails, the weights are neither the old nor the new ones.
    pub(super) is_updating: bool,
    /// Whether the evaluation of the checkpoint that the run is resumed from is still to be done.
    pub(super) evaluation_due: bool,
    /// Approximate size of a checkpoint.
    pub(super) checkpoint_bytes: u64,
}

impl<'a> Run<'a> {
    pub(crate) fn start(trainer: &'a Trainer, model: MaskRcnn) -> Result<Self, TrainError> {
        let images = trainer.train.samples.len();
        let is_lead = trainer.comm.rank() == 0;
        let journal =
            is_lead.then(|| Journal::start(trainer.folder.path(), &trainer.config, images));
        let journal = journal.transpose();
        let journal = journal.map_err(|source| trainer.io_error(source))?;
        let mut run = Self::with_journal(trainer, model, journal)?;
        run.record_left_out()?;
        Ok(run)
    }

    fn with_journal(
        trainer: &'a Trainer,
        model: MaskRcnn,
        journal: Option<Journal>,
    ) -> Result<Self, TrainError> {
        let config = &trainer.config.train;
        let model = exchange::same_weights(&*trainer.comm, model, &trainer.device)?;
        let ema = (config.ema > 0.0).then(|| Ema::new(&model, config.ema));
        Ok(Self {
            trainer,
            device: trainer.device.clone().autodiff(),
            model,
            replicas: Replicas::new(config.replicas)?,
            graphs: config.graph.then(StepGraphs::default),
            optimizer: Optimizer::new(config),
            scaler: LossScaler::new(config, trainer.precision),
            sampling: Stream::named("sampling", config.seed),
            ema,
            step: 0,
            best: None,
            stale: 0,
            journal,
            memory: MemoryMeter::default(),
            found: Vec::new(),
            left_out: Vec::new(),
            is_whole: true,
            is_updating: false,
            evaluation_due: false,
            checkpoint_bytes: 0,
        })
    }

    /// The run in the state of `saved`.
    pub(crate) fn resume(trainer: &'a Trainer, saved: Saved) -> Result<Self, TrainError> {
        let Saved {
            folder, progress, ..
        } = saved;
        let misfit = |reason| CheckpointError::Misfit {
            path: folder.clone(),
            reason,
        };
        let seed = trainer.config.train.seed;
        if progress.seed != seed {
            let reason = format!(
                "it was trained with train.seed = {}, which determines the order of the images; the requested \
                 seed is {seed}",
                progress.seed
            );
            return Err(misfit(reason).into());
        }
        let model = load_state_dict(trainer.new_model(), saved.weights, &folder)?;
        let is_lead = trainer.comm.rank() == 0;
        let journal = is_lead.then(|| {
            Journal::resume(
                trainer.folder.path(),
                &trainer.config,
                trainer.train.samples.len(),
                progress.metrics_bytes,
            )
        });
        let journal = journal.transpose()?;
        let mut run = Self::with_journal(trainer, model, journal)?;
        run.optimizer
            .load_state_dict(
                &run.model,
                saved.optimizer,
                progress.optimizer_steps,
                &trainer.device,
            )
            .map_err(misfit)?;
        if let (Some(_), Some(averaged)) = (&run.ema, saved.ema) {
            let averaged = load_state_dict(run.model.valid(), averaged, &folder)?;
            run.ema = Some(Ema::new(&averaged, trainer.config.train.ema));
        }
        run.scaler.resume(progress.loss_scale);
        (run.step, run.best, run.stale) = (progress.step, progress.best, progress.stale);
        run.evaluation_due = progress.evaluation_due;
        run.record_left_out()?;
        // Only after everything fits: a rejected configuration must not be written.
        if is_lead {
            trainer.folder.write_args(&trainer.config)?;
        }
        Ok(run)
    }

    /// Whether this is the rank that writes.
    fn is_lead(&self) -> bool {
        self.trainer.comm.rank() == 0
    }

    /// Saves, evaluates on the validation set, draws curves and images.
    pub(crate) fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<Metrics, TrainError> {
        let Trainer {
            config,
            val,
            folder,
            device,
            protocol,
            comm,
            ..
        } = self.trainer;
        let started = Instant::now();
        self.save(&folder.last(), None)?;
        let model = self.averaged();
        let val_losses = validation_losses(&**comm, &model, val, config, device)?;
        if comm.is_alone() && observer.should_stop() {
            return Err(TrainError::Interrupted);
        }
        let predictor = Predictor::new(&model, config.clone(), val.classes.clone(), device);
        let mut progress = |done, all| {
            observer.on_eval_progress(done, all);
            match observer.should_stop() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let evaluation = evaluate_over_ranks(&**comm, &predictor, val, *protocol, &mut progress)?;
        let (metrics, found) = (evaluation.metrics, evaluation.detections);
        self.leave_out("val", &evaluation.left_out, observer)?;
        if self.is_lead() {
            draw_predictions(
                &folder.val_predictions(),
                val,
                &found,
                config.train.val_images,
            )?;
        }
        self.found = found;
        // A finished run that is resumed is evaluated for its report, but counted only once.
        let journal = self.journal.as_ref();
        if !journal.is_some_and(|journal| journal.ends_with_evaluation(self.step)) {
            self.stale += 1;
            if self.best.is_none_or(|best| metrics.mask_ap() > best) {
                (self.best, self.stale) = (Some(metrics.mask_ap()), 0);
                self.save(&folder.best(), Some(&metrics))?;
            }
            let seconds = started.elapsed().as_secs_f64();
            self.record(Record::eval(self.step, &metrics, val_losses, seconds))?;
        }
        let drawn = self.journal.as_ref().map_or(Ok(()), Journal::write_derived);
        drawn.map_err(|source| self.trainer.io_error(source))?;
        observer.on_eval(self.step, &metrics);
        Ok(metrics)
    }

    /// Ends the logs and writes the report.
    pub(crate) fn finish(&mut self, metrics: &Metrics) -> Result<(), TrainError> {
        let report = self.trainer.config.log.report;
        if report {
            let mine = std::mem::take(&mut self.found);
            self.found = detections_of_all(&*self.trainer.comm, mine)?;
        }
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        let ended = journal.finish();
        ended.map_err(|source| self.trainer.io_error(source))?;
        if report {
            let records = journal.records();
            self.trainer.write_report(metrics, &self.found, records)?;
        }
        Ok(())
    }

    /// The model used for evaluation: the averaged weights, if `train.ema` is on.
    fn averaged(&self) -> MaskRcnn {
        let averaged = self.ema.as_ref().map(|ema| ema.apply(&self.model));
        averaged.unwrap_or_else(|| self.model.clone())
    }

    pub(crate) fn save(&self, path: &Path, metrics: Option<&Metrics>) -> Result<(), TrainError> {
        if !self.is_lead() {
            return Ok(());
        }
        let (config, classes) = (&self.trainer.config, &self.trainer.train.classes);
        let training = Some(self.training(metrics));
        Ok(weights::save(
            path,
            &self.averaged(),
            config,
            classes,
            training,
        )?)
    }

    fn training(&self, metrics: Option<&Metrics>) -> TrainingRecord {
        TrainingRecord {
            version: env!("CARGO_PKG_VERSION").into(),
            step: self.step,
            images: self.trainer.train.samples.len(),
            box_ap: metrics.map(Metrics::box_ap),
            mask_ap: metrics.map(Metrics::mask_ap),
        }
    }

    /// After a failed step: saves a checkpoint of the steps before it or, if that is impossible, their weights; nothing
    /// if the update itself failed. The step's error is the one to report, so failures are ignored.
    pub(super) fn rescue(&self) {
        if self.is_updating {
            return;
        }
        let saved = self.is_whole && caught(|| self.checkpoint(false)).is_ok();
        if !saved {
            // A device that has failed may be unable to return them.
            let _ = caught(|| self.save(&self.trainer.folder.last(), None));
        }
    }

    /// Returns an error if there is no space for a single checkpoint.
    pub(super) fn check_room(&self) -> Result<(), TrainError> {
        match self.is_lead() {
            true => Ok(check_room(
                &self.trainer.folder.checkpoints(),
                self.checkpoint_bytes,
            )?),
            false => Ok(()),
        }
    }

    /// Records in the checkpoint of this step that its evaluation is done.
    pub(super) fn note_evaluation(&mut self, checkpoint: &Path) -> Result<(), TrainError> {
        self.evaluation_due = false;
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let log = journal.synced_length();
        let evaluated = Evaluated {
            best: self.best,
            stale: self.stale,
            metrics_bytes: log.map_err(|source| self.trainer.io_error(source))?,
        };
        Ok(evaluated.write(checkpoint)?)
    }

    /// Writes a checkpoint of the current step, before its evaluation if one is due.
    pub(crate) fn checkpoint(&self, evaluation_due: bool) -> Result<PathBuf, TrainError> {
        let Trainer { config, train, .. } = self.trainer;
        let Some(journal) = &self.journal else {
            return Ok(self.trainer.folder.checkpoint(self.step));
        };
        let images = train.samples.len();
        let used_images = self.step * config.train.batch_size;
        let log = journal.synced_length();
        let progress = Progress {
            version: env!("CARGO_PKG_VERSION").into(),
            step: self.step,
            optimizer_steps: self.optimizer.steps,
            seed: config.train.seed,
            epoch: used_images / images,
            index: used_images % images,
            best: self.best,
            stale: self.stale,
            loss_scale: self.scaler.state(),
            metrics_bytes: log.map_err(|source| self.trainer.io_error(source))?,
            evaluation_due,
        };
        let averaged = self.ema.as_ref().map(|ema| ema.apply(&self.model));
        let snapshot = Snapshot {
            progress: &progress,
            model: &self.model,
            optimizer: &self.optimizer,
            ema: averaged.as_ref(),
            config,
            classes: &train.classes,
            training: self.training(None),
        };
        let keep = config.train.keep_checkpoints;
        let folder = self.trainer.folder.checkpoints();
        Ok(snapshot.write(&folder, keep, self.checkpoint_bytes)?)
    }

    /// The records of the log so far; empty on ranks other than 0.
    pub(super) fn records(&self) -> &[Record] {
        self.journal.as_ref().map_or(&[], Journal::records)
    }

    pub(crate) fn record(&mut self, record: Record) -> Result<(), TrainError> {
        let written = self.journal.as_mut().map(|journal| journal.append(record));
        let written = written.unwrap_or(Ok(()));
        written.map_err(|source| self.trainer.io_error(source))
    }
}
