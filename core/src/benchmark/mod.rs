//! Benchmarks of training, inference and single kernels.

mod graph;
mod kernels;
mod profile;
mod synthetic;
mod timing;

pub use graph::{GraphResult, benchmark_graph};
pub use kernels::{KernelReport, KernelResult, KernelSpec, Rates, benchmark_kernels};
pub use profile::{KernelTime, Profile};
pub use synthetic::synthetic_images;
pub use timing::{Percentiles, Timing};

use crate::config::{Config, ConfigError};
use crate::data::{DataError, Dataset, OnProblem, Sample};
use crate::image::transform::padded_size;
use crate::model::MaskRcnn;
use crate::predict::{PredictError, Predictor};
use crate::random::Stream;
use crate::train::parts::{
    Batch, Loader, LossScaler, MemoryMeter, Optimizer, Rank, Replicas,
    accumulated_losses_and_gradients, device_memory,
};
use crate::train::{Augment, LoadError, TrainError};
use ::image::RgbImage;
use burn::tensor::Device;
use mrcnn_backends::Resolved;
use mrcnn_kernels::has_selection_kernels;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use synthetic::render_largest;
use thiserror::Error;

/// The work that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Forward, losses, backward, optimizer.
    Train,
    /// From decoded images to detections with masks in pixels of the images.
    Inference,
}

/// Settings of a benchmark.
#[derive(Clone, Debug)]
pub struct BenchmarkSpec {
    /// The work that is timed.
    pub mode: Mode,
    /// Numbers of images per step, with one result each.
    pub batch_sizes: Vec<usize>,
    /// Number of steps before the timed ones.
    pub warmup: usize,
    /// Number of timed steps.
    pub steps: usize,
    /// Folder of a dataset; `None` for rendered images, which need no decoding.
    pub data: Option<PathBuf>,
    /// Precision of activations.
    pub precision: Resolved,
    /// Whether the launches of GPU kernels in the timed steps are recorded, which makes the steps take longer. Needs a
    /// warm-up step, in which kernels are compiled and tuned.
    pub profile: bool,
}

impl BenchmarkSpec {
    fn check(&self) -> Result<(), BenchmarkError> {
        if self.steps == 0 {
            return Err(BenchmarkError::Zero("the number of steps"));
        }
        if self.profile && self.warmup == 0 {
            return Err(BenchmarkError::Zero(
                "the number of warm-up steps before a profile",
            ));
        }
        if self.batch_sizes.is_empty() || self.batch_sizes.contains(&0) {
            return Err(BenchmarkError::Zero("a batch size"));
        }
        Ok(())
    }
}

/// Errors of a benchmark.
#[derive(Debug, Error)]
pub enum BenchmarkError {
    /// A number that must not be zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The dataset cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A training step failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An image cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A prediction failed.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// The device cannot record a step of this network.
    #[error(
        "{0} does not record a step as a graph; use a CUDA device (--backend cuda), or remove \
         --graph"
    )]
    NoGraph(String),
    /// The device launches no kernels.
    #[error(
        "--profile records kernels of GPUs, and the CPU launches none; use --backend wgpu or cuda"
    )]
    NoLaunches,
    /// No kernel has one of the requested names.
    #[error("no kernel has `{0}` in its name or problem; without --only all are timed and listed")]
    NoKernel(String),
    /// The data have more classes than the network.
    #[error(
        "the network has {known} classes with the background, and the data {needed}; use other --weights or \
         --data, or remove model.num_classes"
    )]
    Classes {
        /// Classes of the network, with the background.
        known: usize,
        /// Classes of the data, with the background.
        needed: usize,
    },
    /// The replayed graph returns other results than the launched kernels.
    #[error(
        "batch size {batch_size}: the replayed graph returns other results than the launched kernels; \
         remove --graph"
    )]
    GraphDiffers {
        /// Images per step.
        batch_size: usize,
    },
}

/// The result of one batch size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchmarkResult {
    /// Images per step.
    pub batch_size: usize,
    /// Height and width in pixels of the padded batch with the most pixels, of all steps.
    pub padded: (usize, usize),
    /// Images per second over all timed steps.
    pub images_per_second: f64,
    /// Milliseconds per step, including data loading.
    pub step_ms: Percentiles,
    /// Fraction of the time spent waiting for data.
    pub data_wait: f64,
    /// Resident memory of the process after the last step, in millions of bytes.
    pub memory_mb: f64,
    /// Memory reserved on the device, in millions of bytes; `None` for devices without memory of their own.
    pub device_memory_mb: Option<f64>,
    /// The kernels of the timed steps, if they were recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Classes of the rendered images, with the background.
const SYNTHETIC_CLASSES: usize = 5;

/// Learning rate of the timed steps: too small for random weights to diverge, with the full work of the optimizer.
const LEARNING_RATE: f64 = 1e-6;

/// Benchmarks every batch size of `spec` with `model`, or with random weights if it is `None`. `on_progress` receives
/// progress messages.
pub fn benchmark(
    spec: &BenchmarkSpec,
    config: &Config,
    model: Option<MaskRcnn>,
    device: &Device,
    on_progress: &mut dyn FnMut(&str),
) -> Result<Vec<BenchmarkResult>, BenchmarkError> {
    spec.check()?;
    if spec.profile && !has_selection_kernels(device) {
        return Err(BenchmarkError::NoLaunches);
    }
    let mut config = config.clone();
    let data = match &spec.data {
        Some(dir) => Some(Arc::new(
            Dataset::open(dir, &config.data.train, OnProblem::Skip)?.0,
        )),
        None => None,
    };
    if config.model.num_classes == 0 {
        let classes = data.as_ref().map(|data| data.classes.len() + 1);
        config.model.num_classes = classes.unwrap_or(SYNTHETIC_CLASSES);
    }
    let (known, classes) = (config.model.num_classes, data.as_ref());
    let needed = classes.map_or(2, |data| data.classes.len() + 1);
    if spec.mode == Mode::Train && known < needed {
        return Err(BenchmarkError::Classes { known, needed });
    }
    if spec.mode == Mode::Inference {
        (config.train.replicas, config.train.accumulate) = (1, 1);
    }
    let tracked = device.clone().autodiff();
    let new = || MaskRcnn::new(&config.model, config.train.seed, &tracked);
    let model = model.unwrap_or_else(new).with_precision(spec.precision);
    let mut results = Vec::new();
    for &batch_size in &spec.batch_sizes {
        let mut config = config.clone();
        config.train.batch_size = batch_size;
        config.train.replicas = config.train.replicas.min(batch_size);
        config.train.steps = spec.warmup + spec.steps;
        config.check()?;
        on_progress(&format!(
            "batch size {batch_size}: {} + {} steps",
            spec.warmup, spec.steps
        ));
        let mut timing = match spec.profile {
            true => Timing::with_launches(spec.warmup),
            false => Timing::new(spec.warmup),
        };
        match spec.mode {
            Mode::Train => {
                let scaler = LossScaler::new(&config.train, spec.precision);
                train(&config, &model, data.clone(), &tracked, scaler, &mut timing)?
            }
            Mode::Inference => inference(&config, &model, data.as_deref(), device, &mut timing)?,
        }
        let profile = timing.profile();
        results.push(BenchmarkResult {
            batch_size,
            padded: timing.padded(),
            images_per_second: timing.per_second(batch_size),
            step_ms: timing.percentiles(),
            data_wait: timing.data_wait(),
            memory_mb: MemoryMeter::default().process() as f64 / 1e6,
            device_memory_mb: device_memory(device).map(|bytes| bytes as f64 / 1e6),
            profile,
        });
    }
    Ok(results)
}

fn train(
    config: &Config,
    model: &MaskRcnn,
    data: Option<Arc<Dataset>>,
    device: &Device,
    mut scaler: LossScaler,
    timing: &mut Timing,
) -> Result<(), BenchmarkError> {
    let replicas = Replicas::new(config.train.replicas).map_err(TrainError::from)?;
    let mut optimizer = Optimizer::new(&config.train);
    let mut model = model.clone();
    let loader = data
        .map(|data| Loader::start(data, config, 0, Rank::SINGLE))
        .transpose()?;
    let synthetic = match &loader {
        Some(_) => None,
        None => Some(synthetic_batch(config)),
    };
    for step in 0..config.train.steps {
        let copy = synthetic.clone();
        let started = Instant::now();
        let batch = match (copy, &loader) {
            (Some(batch), _) => batch,
            (None, Some(loader)) => loader
                .next_batch()
                .unwrap_or(Err(LoadError::nothing_left(&[])))?,
            (None, None) => return Err(LoadError::nothing_left(&[]).into()),
        };
        let waited = started.elapsed();
        timing.record_size(batch.shape[2], batch.shape[3]);
        let stream = Stream::named("benchmark", config.train.seed).fork(step as u64);
        let found = match config.train.accumulate {
            1 => replicas.losses_and_gradients(&model, batch, stream, device, scaler.factor()),
            n => {
                accumulated_losses_and_gradients(&model, batch, n, stream, device, scaler.factor())
            }
        };
        let (_, gradients) = found.map_err(TrainError::from)?;
        let outcome = optimizer.step(&mut model, gradients, LEARNING_RATE);
        // Skipped steps are timed like the others.
        if outcome.is_applied {
            scaler.applied();
        } else {
            scaler.overflowed();
        }
        device.sync().map_err(TrainError::from)?;
        timing.add(started.elapsed(), waited);
    }
    Ok(())
}

fn synthetic_batch(config: &Config) -> Batch {
    let classes = config.model.num_classes - 1;
    let (images, dataset) = render_largest(config.train.batch_size, classes, &config.image);
    let augment = Augment::new(config);
    let stream = Stream::named("benchmark images", config.train.seed);
    let samples = (0..).zip(images).zip(&dataset.samples);
    let samples =
        samples.map(|((index, image), sample)| augment.prepare(image, sample, stream.fork(index)));
    let image = &config.image;
    Batch::at_least(
        samples.collect(),
        image.size_divisor,
        image.smallest_batch(),
    )
}

fn inference(
    config: &Config,
    model: &MaskRcnn,
    data: Option<&Dataset>,
    device: &Device,
    timing: &mut Timing,
) -> Result<(), BenchmarkError> {
    let batch_size = config.train.batch_size;
    let (synthetic, rendered) = match data {
        Some(_) => (Vec::new(), None),
        None => {
            let classes = config.model.num_classes - 1;
            let (images, dataset) = render_largest(batch_size, classes, &config.image);
            (images, Some(dataset))
        }
    };
    let dataset = match (data, &rendered) {
        (Some(data), _) | (None, Some(data)) => data,
        (None, None) => return Ok(()),
    };
    let predictor = Predictor::new(model, config.clone(), dataset.classes.clone(), device);
    let mut next = dataset.samples.iter().cycle();
    for _ in 0..config.train.steps {
        let started = Instant::now();
        let read: Vec<RgbImage> = match data {
            Some(_) => {
                let samples: Vec<&Sample> = next.by_ref().take(batch_size).collect();
                let images = samples.iter().map(|sample| sample.image());
                images.collect::<Result<_, _>>().map_err(LoadError::from)?
            }
            None => Vec::new(),
        };
        let waited = started.elapsed();
        let images: Vec<&RgbImage> = if data.is_some() { &read } else { &synthetic }
            .iter()
            .collect();
        let image = &config.image;
        let resized = (images.iter()).map(|read| image.resized(read.height(), read.width()));
        let (height, width) = padded_size(resized, image.size_divisor, image.smallest_batch());
        timing.record_size(height, width);
        predictor.predict_batch(&images)?;
        timing.add(started.elapsed(), waited);
    }
    Ok(())
}
