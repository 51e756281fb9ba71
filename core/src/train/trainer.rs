//! The training loop: batches, steps, evaluations, checkpoints.

use super::batch::Batch;
use super::error::TrainError;
use super::evaluation::{draw_predictions, evaluate_model};
use super::loader::{LoadError, Loader};
use super::losses::Losses;
use super::optimizer::Optimizer;
use super::replicas::Replicas;
use super::run_folder::RunFolder;
use super::schedule::learning_rate;
use crate::config::Config;
use crate::data::Dataset;
use crate::eval::{AreaProtocol, Metrics};
use crate::model::MaskRcnn;
use crate::predict::Predictor;
use crate::random::Stream;
use crate::report::{MetricsLog, Record};
use crate::weights::{self, TrainingRecord};
use burn::tensor::Device;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done.
    pub step: usize,
    /// Losses in the order of [`Losses::NAMES`].
    pub losses: [f32; 5],
    /// Learning rate.
    pub learning_rate: f64,
    /// Length of the gradient.
    pub grad_norm: f32,
    /// Pictures a second, this step, data included.
    pub images_per_second: f64,
    /// Share of the step spent waiting for data.
    pub data_wait: f64,
}

impl StepReport {
    /// The sum of the losses.
    pub fn loss(&self) -> f32 {
        self.losses.iter().sum()
    }
}

/// Follows a training run.
pub trait Observer {
    /// After every step.
    fn on_step(&mut self, report: &StepReport);
    /// During an evaluation: pictures done, of how many.
    fn on_eval_progress(&mut self, _done: usize, _all: usize) {}
    /// After every evaluation: steps done, and the COCO numbers.
    fn on_eval(&mut self, step: usize, metrics: &Metrics);
    /// Asked before every step; true ends the run, which saves and evaluates first.
    fn should_stop(&self) -> bool {
        false
    }
}

/// A training run, from [`Trainer::prepare`].
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
    /// How masks are sorted by size.
    pub protocol: AreaProtocol,
}

impl Trainer {
    /// A model with initial weights for this run.
    pub fn new_model(&self) -> MaskRcnn {
        let device = self.device.clone().autodiff();
        MaskRcnn::new(&self.config.model, self.config.train.seed, &device)
    }

    /// Trains to the last step (or until told to stop), evaluating on the way and at the end.
    ///
    /// Where a step fails, the weights before it are in `last.safetensors`.
    pub fn run(&self, model: MaskRcnn, observer: &mut dyn Observer) -> Result<Metrics, TrainError> {
        let mut run = Run::start(self, model)?;
        let steps = self.config.train.steps;
        let loader = Loader::start(self.train.clone(), &self.config, 0)?;
        while run.step < steps && !observer.should_stop() {
            if let Err(error) = run.train_step(&loader, observer) {
                run.save(&self.folder.last(), None)?;
                return Err(error);
            }
            let every = self.config.train.eval_every;
            if every > 0 && run.step.is_multiple_of(every) && run.step < steps {
                run.evaluate(observer)?;
            }
        }
        run.evaluate(observer)
    }

    fn io_error(&self, source: std::io::Error) -> TrainError {
        TrainError::Io {
            path: self.folder.path().into(),
            source,
        }
    }
}

/// A run under way.
struct Run<'a> {
    trainer: &'a Trainer,
    device: Device,
    model: MaskRcnn,
    replicas: Replicas,
    optimizer: Optimizer,
    sampling: Stream,
    /// Steps done.
    step: usize,
    best: f64,
    log: MetricsLog,
    records: Vec<Record>,
}

impl<'a> Run<'a> {
    fn start(trainer: &'a Trainer, model: MaskRcnn) -> Result<Self, TrainError> {
        let config = &trainer.config.train;
        Ok(Self {
            trainer,
            device: trainer.device.clone().autodiff(),
            model,
            replicas: Replicas::new(config.replicas)?,
            optimizer: Optimizer::new(config),
            sampling: Stream::named("sampling", config.seed),
            step: 0,
            best: f64::NEG_INFINITY,
            log: trainer
                .folder
                .metrics()
                .map_err(|source| trainer.io_error(source))?,
            records: Vec::new(),
        })
    }

    fn train_step(
        &mut self,
        loader: &Loader,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let started = Instant::now();
        let batch = loader.next_batch().unwrap_or(Err(LoadError::NothingLeft))?;
        let waited = started.elapsed().as_secs_f64();
        let pictures = batch.image_ids.len();
        let mut report = self.update(batch)?;
        self.step += 1;
        let seconds = started.elapsed().as_secs_f64();
        report.images_per_second = pictures as f64 / seconds;
        report.data_wait = waited / seconds;
        observer.on_step(&report);
        self.record(Record::step(&report, &Losses::NAMES))
    }

    /// Moves the weights by one batch; times are left 0.
    fn update(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        let config = &self.trainer.config.train;
        let rate = learning_rate(self.step, config);
        let stream = self.sampling.fork(self.step as u64);
        let image_ids = batch.image_ids.clone();
        let (losses, gradients) =
            self.replicas
                .losses_and_gradients(&self.model, batch, stream, &self.device)?;
        let (model, outcome) = self.optimizer.step(self.model.clone(), gradients, rate);
        let report = StepReport {
            step: self.step + 1,
            losses,
            learning_rate: rate,
            grad_norm: outcome.grad_norm,
            images_per_second: 0.0,
            data_wait: 0.0,
        };
        if !outcome.applied || !report.loss().is_finite() {
            let (step, loss) = (report.step, report.loss());
            return Err(TrainError::NotFinite {
                step,
                loss,
                image_ids,
            });
        }
        self.model = model;
        Ok(report)
    }

    /// Saves, evaluates on the validation set, draws curves and pictures.
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<Metrics, TrainError> {
        let Trainer {
            config,
            val,
            folder,
            device,
            protocol,
            ..
        } = self.trainer;
        self.save(&folder.last(), None)?;
        let predictor = Predictor::new(&self.model, config.clone(), val.classes.clone(), device);
        let mut progress = |done, all| observer.on_eval_progress(done, all);
        let (metrics, found) = evaluate_model(&predictor, val, *protocol, &mut progress)?;
        draw_predictions(
            &folder.val_predictions(),
            val,
            &found,
            config.train.val_pictures,
        )?;
        if metrics.mask_ap() > self.best {
            self.best = metrics.mask_ap();
            self.save(&folder.best(), Some(&metrics))?;
        }
        self.record(Record::eval(self.step, &metrics))?;
        folder
            .draw_curves(&self.records)
            .map_err(|source| self.trainer.io_error(source))?;
        observer.on_eval(self.step, &metrics);
        Ok(metrics)
    }

    fn save(&self, path: &Path, metrics: Option<&Metrics>) -> Result<(), TrainError> {
        let (config, classes) = (&self.trainer.config, &self.trainer.train.classes);
        let record = TrainingRecord {
            version: env!("CARGO_PKG_VERSION").into(),
            step: self.step,
            pictures: self.trainer.train.samples.len(),
            box_ap: metrics.map(Metrics::box_ap),
            mask_ap: metrics.map(Metrics::mask_ap),
        };
        Ok(weights::save(
            path,
            &self.model,
            config,
            classes,
            Some(record),
        )?)
    }

    fn record(&mut self, record: Record) -> Result<(), TrainError> {
        self.log
            .append(&record)
            .map_err(|source| self.trainer.io_error(source))?;
        self.records.push(record);
        Ok(())
    }
}
