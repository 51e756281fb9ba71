//! The training loop: batches, steps, evaluations, checkpoints.

use super::loader::{LoadError, Loader};
use super::losses::Losses;
use super::run_folder::RunFolder;
use super::schedule::learning_rate;
use super::sgd::Sgd;
use super::step::forward_losses;
use crate::config::Config;
use crate::data::{Dataset, OnProblem, Sample};
use crate::detection::Detection;
use crate::eval::{AreaProtocol, EvalError, Metrics, evaluate};
use crate::image::decode::decode;
use crate::image::overlay::{OverlayOptions, draw, side_by_side};
use crate::model::MaskRcnn;
use crate::predict::{PredictError, Predictor};
use crate::random::Stream;
use crate::report::Record;
use crate::weights::{self, WeightsError};
use burn::tensor::{Device, ExecutionError};
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;

/// Why training stopped.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Data could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The device failed.
    #[error("the device failed: {0}; try a smaller train.batch_size or image.min_size")]
    Device(#[from] ExecutionError),
    /// A loss or gradient is not finite.
    #[error(
        "step {step}: the loss or its gradient is not finite (loss {loss}, pictures {image_ids:?}); \
         lower train.learning_rate, lengthen train.warmup_steps or set train.clip_norm=5"
    )]
    NotFinite {
        /// The step.
        step: usize,
        /// The sum of the losses.
        loss: f32,
        /// The pictures of the batch.
        image_ids: Vec<u64>,
    },
    /// The run folder cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Weights cannot be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Evaluation failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Prediction failed.
    #[error(transparent)]
    Predict(#[from] PredictError),
}

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

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalReport {
    /// Steps done.
    pub step: usize,
    /// The COCO numbers.
    pub metrics: Metrics,
}

/// Follows a training run.
pub trait Observer {
    /// After every step.
    fn on_step(&mut self, report: &StepReport);
    /// During an evaluation: pictures done, of how many.
    fn on_eval_progress(&mut self, _done: usize, _all: usize) {}
    /// After every evaluation.
    fn on_eval(&mut self, report: &EvalReport);
    /// Asked before every step; true ends the run, which saves first.
    fn should_stop(&self) -> bool {
        false
    }
}

/// A training run.
pub struct Trainer {
    /// The configuration, `model.num_classes` set.
    pub config: Config,
    /// What is trained on.
    pub train: Arc<Dataset>,
    /// What is evaluated on.
    pub val: Arc<Dataset>,
    /// Where results go.
    pub folder: RunFolder,
    /// Where it runs, autodiff or not.
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
    pub fn run(
        &self,
        mut model: MaskRcnn,
        observer: &mut dyn Observer,
    ) -> Result<Metrics, TrainError> {
        let config = &self.config.train;
        let device = self.device.clone().autodiff();
        let mut log = self.folder.metrics().map_err(|source| self.io_error(source))?;
        let mut records = Vec::new();
        let mut sgd = Sgd::new(config.momentum, config.weight_decay, config.clip_norm);
        let stream = Stream::named("sampling", config.seed);
        let loader = Loader::start(self.train.clone(), &self.config, 0)?;
        let mut best = f64::NEG_INFINITY;
        let mut metrics = None;
        for step in 0..config.steps {
            let stopped = observer.should_stop();
            if !stopped {
                let started = Instant::now();
                let Some(batch) = loader.next_batch() else { break };
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) => {
                        // What was learnt so far is kept.
                        self.save(&model, &self.folder.last())?;
                        return Err(error.into());
                    }
                };
                let waited = started.elapsed().as_secs_f64();
                let rate = learning_rate(step, config);
                let (losses, _) =
                    forward_losses(&model, &batch, stream.fork(step as u64), &device)?;
                let values = losses.values().inner().try_into_data()?;
                let gradients = losses.total().backward();
                let (moved, outcome) = sgd.step(model, &gradients, rate);
                model = moved;
                let mut report = StepReport {
                    step: step + 1,
                    losses: [0.0; 5],
                    learning_rate: rate,
                    grad_norm: outcome.grad_norm,
                    images_per_second: 0.0,
                    data_wait: 0.0,
                };
                report.losses.iter_mut().zip(values.iter::<f32>()).for_each(|(l, v)| *l = v);
                if !outcome.applied || !report.loss().is_finite() {
                    self.save(&model, &self.folder.last())?;
                    let (loss, image_ids) = (report.loss(), batch.image_ids);
                    return Err(TrainError::NotFinite { step: step + 1, loss, image_ids });
                }
                let seconds = started.elapsed().as_secs_f64();
                report.images_per_second = batch.image_ids.len() as f64 / seconds;
                report.data_wait = waited / seconds;
                observer.on_step(&report);
                let record = Record::step(&report, &Losses::NAMES);
                log.append(&record).map_err(|source| self.io_error(source))?;
                records.push(record);
            }
            let last = stopped || step + 1 == config.steps;
            let due = config.eval_every > 0 && (step + 1) % config.eval_every == 0;
            if last || due {
                self.save(&model, &self.folder.last())?;
                let found = self.evaluate(&model, observer, last)?;
                observer.on_eval(&EvalReport { step: step + 1, metrics: found.clone() });
                let record = Record::eval(step + 1, &found);
                log.append(&record).map_err(|source| self.io_error(source))?;
                records.push(record);
                self.folder.draw_curves(&records).map_err(|source| self.io_error(source))?;
                if found.mask_ap() > best {
                    best = found.mask_ap();
                    self.save(&model, &self.folder.best())?;
                }
                metrics = Some(found);
            }
            if stopped {
                break;
            }
        }
        match metrics {
            Some(metrics) => Ok(metrics),
            None => self.evaluate(&model, observer, true),
        }
    }

    /// Evaluates a model on the validation set; `draw` also writes `val_predictions/`.
    pub fn evaluate(
        &self,
        model: &MaskRcnn,
        observer: &mut dyn Observer,
        draw: bool,
    ) -> Result<Metrics, TrainError> {
        let classes = self.val.classes.clone();
        let predictor = Predictor::new(model, self.config.clone(), classes, &self.device);
        let on_problem = self.config.data.on_problem;
        let mut progress = |done, all| observer.on_eval_progress(done, all);
        let found = predict_dataset(&predictor, &self.val, on_problem, &mut progress)?;
        if draw {
            self.draw_predictions(&found)?;
        }
        Ok(evaluate(&self.val, &found, self.protocol)?)
    }

    fn save(&self, model: &MaskRcnn, path: &std::path::Path) -> Result<(), TrainError> {
        Ok(weights::save(path, model, &self.config, &self.train.classes)?)
    }

    fn io_error(&self, source: std::io::Error) -> TrainError {
        TrainError::Io { path: self.folder.path().into(), source }
    }

    /// Truth beside prediction for the first pictures of the validation set.
    fn draw_predictions(&self, found: &[(u64, Vec<Detection>)]) -> Result<(), TrainError> {
        let folder = self.folder.val_predictions();
        std::fs::create_dir_all(&folder).map_err(|source| self.io_error(source))?;
        let names = |label: usize| self.val.classes.name(label);
        for (image_id, detections) in found.iter().take(self.config.train.val_pictures) {
            let Some(sample) = self.val.samples.iter().find(|s| s.image_id == *image_id) else {
                continue;
            };
            let image = decode(&sample.path).map_err(LoadError::from)?;
            let truth = draw(&image, &as_detections(sample), &names, &OverlayOptions::default());
            let confident: Vec<Detection> =
                detections.iter().filter(|d| d.score >= DRAWN_SCORE).cloned().collect();
            let predicted = draw(&image, &confident, &names, &OverlayOptions::default());
            let sheet = side_by_side(&[("truth", &truth), ("prediction", &predicted)]);
            let path = folder.join(format!("{image_id}.png"));
            sheet.save(&path).map_err(|error| TrainError::Io {
                path,
                source: std::io::Error::other(error),
            })?;
        }
        Ok(())
    }
}

/// Weaker detections are not drawn.
const DRAWN_SCORE: f32 = 0.5;

fn as_detections(sample: &Sample) -> Vec<Detection> {
    let detection = |instance: &crate::data::Instance| Detection {
        bbox: instance.bbox,
        label: instance.label,
        score: 1.0,
        mask: instance.mask.clone(),
    };
    sample.instances.iter().map(detection).collect()
}

/// Predicts every picture of a data set, a few of similar size at a time.
pub(crate) fn predict_dataset(
    predictor: &Predictor,
    dataset: &Dataset,
    on_problem: OnProblem,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<(u64, Vec<Detection>)>, TrainError> {
    let mut found = Vec::with_capacity(dataset.samples.len());
    for samples in dataset.samples.chunks(EVAL_BATCH) {
        let mut images = Vec::with_capacity(samples.len());
        for sample in samples {
            match decode(&sample.path) {
                Ok(image) => images.push((sample.image_id, image)),
                Err(_) if on_problem == OnProblem::Skip => {}
                Err(error) => return Err(LoadError::from(error).into()),
            }
        }
        let references: Vec<_> = images.iter().map(|(_, image)| image).collect();
        let detections = predictor.predict_batch(&references)?;
        found.extend(images.iter().map(|(id, _)| *id).zip(detections));
        progress(found.len(), dataset.samples.len());
    }
    Ok(found)
}

/// Pictures evaluated at a time.
const EVAL_BATCH: usize = 4;

/// Evaluates weights on a data set and returns the detections too.
pub fn evaluate_model(
    predictor: &Predictor,
    dataset: &Dataset,
    protocol: AreaProtocol,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Metrics, Vec<(u64, Vec<Detection>)>), TrainError> {
    let found = predict_dataset(predictor, dataset, predictor.config().data.on_problem, progress)?;
    Ok((evaluate(dataset, &found, protocol)?, found))
}
