//! Benchmark of a step launched kernel by kernel and replayed as a recorded graph.

use super::{
    BenchmarkError, BenchmarkSpec, Mode, Percentiles, SYNTHETIC_CLASSES, Timing, render_largest,
    synthetic_batch,
};
use crate::config::Config;
use crate::image::transform::{Planes, prepare};
use crate::model::{DetectionSlots, MaskRcnn};
use crate::predict::{PredictError, input};
use crate::random::Stream;
use crate::train::TrainError;
use crate::train::parts::{LossScaler, SampleInputs, step_on_device};
use burn::module::Module;
use burn::tensor::{Device, Tensor, capture};
use mrcnn_kernels::{can_select, has_selection_kernels};
use serde::Serialize;
use std::time::Instant;

/// Times for one batch size, launched kernel by kernel and replayed as a graph. Inference is from images on the device
/// to detection slots and their mask logits on the device; training is from a batch on the device to losses and
/// gradients on the device, without the optimizer, whose work depends on numbers that the host reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphResult {
    /// Images per step.
    pub batch_size: usize,
    /// Height and width of the padded images, in pixels.
    pub padded: (usize, usize),
    /// Milliseconds per step with kernels launched one by one.
    pub launched_ms: Percentiles,
    /// Milliseconds per step that replays the graph.
    pub replayed_ms: Percentiles,
}

/// Benchmarks launched and replayed steps for each batch size of `spec`, on rendered images.
///
/// # Errors
///
/// If the settings are invalid, the device fails or records no graph, or the replay returns other boxes (inference),
/// or another loss or gradient norm (training), than the launched kernels.
pub fn benchmark_graph(
    spec: &BenchmarkSpec,
    config: &Config,
    model: Option<MaskRcnn>,
    device: &Device,
    on_progress: &mut dyn FnMut(&str),
) -> Result<Vec<GraphResult>, BenchmarkError> {
    spec.check()?;
    let mut config = config.clone();
    if config.model.num_classes == 0 {
        config.model.num_classes = SYNTHETIC_CLASSES;
    }
    config.check()?;
    let plain = device.clone().without_autodiff();
    let device = match spec.mode {
        Mode::Train => plain.clone().autodiff(),
        Mode::Inference => plain.clone(),
    };
    let model = match (model, spec.mode) {
        (Some(model), Mode::Train) => model,
        (Some(model), Mode::Inference) => model.valid(),
        (None, _) => MaskRcnn::new(&config.model, config.train.seed, &device),
    };
    let model = model.with_precision(spec.precision);
    if !has_selection_kernels(&plain) || !can_select(&plain, &model.selection_limits()) {
        return Err(BenchmarkError::NoGraph(format!("{plain:?}")));
    }
    let (warmup, steps) = (spec.warmup, spec.steps);
    let sizes = spec.batch_sizes.iter().map(|&batch_size| {
        on_progress(&format!(
            "batch size {batch_size}: {warmup} + {steps} steps, launched and replayed"
        ));
        let mut config = config.clone();
        config.train.batch_size = batch_size;
        let work = Work {
            spec,
            config: &config,
            model: &model,
            device: &device,
        };
        match spec.mode {
            Mode::Train => work.train(),
            Mode::Inference => work.infer(batch_size),
        }
    });
    sizes.collect()
}

/// Model and settings of a timed step.
struct Work<'a> {
    spec: &'a BenchmarkSpec,
    config: &'a Config,
    model: &'a MaskRcnn,
    device: &'a Device,
}

impl Work<'_> {
    fn infer(&self, batch_size: usize) -> Result<GraphResult, BenchmarkError> {
        let image_config = &self.config.image;
        let classes = self.config.model.num_classes - 1;
        let (images, _) = render_largest(batch_size, classes, image_config);
        let planes = images.iter().map(|image| prepare(image, image_config));
        let planes: Vec<Planes> = planes.collect();
        let (images, sizes) = input(&planes, image_config, self.device);
        let model = self.model.prepared().model;
        let infer = || model.detect_in_slots(images.clone(), &sizes);
        let read = |(slots, _): &(DetectionSlots, Tensor<4>)| {
            Ok(pollster::block_on(slots.clone().read()).map_err(PredictError::from)?)
        };
        self.times(&images, infer, read)
    }

    fn train(&self) -> Result<GraphResult, BenchmarkError> {
        let batch = synthetic_batch(self.config);
        let images = batch.images(self.device);
        let stream = Stream::named("benchmark", self.config.train.seed);
        let inputs = SampleInputs::new(&batch, stream, &self.device.clone().inner());
        let scale = LossScaler::new(&self.config.train, self.spec.precision).factor();
        let step = || step_on_device(self.model, images.clone(), &inputs, scale);
        let read = |(numbers, _): &(Tensor<1>, _)| {
            let numbers = numbers.clone().try_into_data().map_err(TrainError::from)?;
            Ok(numbers.iter::<f32>().map(f32::to_bits).collect::<Vec<_>>())
        };
        self.times(&images, step, read)
    }

    /// Times `step` launched and replayed; `read` returns the results that must be equal.
    fn times<T, R: PartialEq>(
        &self,
        images: &Tensor<4>,
        step: impl Fn() -> T,
        read: impl Fn(&T) -> Result<R, BenchmarkError>,
    ) -> Result<GraphResult, BenchmarkError> {
        let [batch_size, _, height, width] = images.dims();
        let device = self.device.clone().without_autodiff();
        let sync = || device.sync().map_err(PredictError::from);
        let (warmup, steps) = (self.spec.warmup, self.spec.steps);

        let mut launched = Timing::new(warmup);
        let mut expected = None;
        for _ in 0..warmup + steps {
            let started = Instant::now();
            let output = step();
            sync()?;
            launched.add(started.elapsed(), Default::default());
            expected = Some(output);
        }
        let expected = expected.as_ref().map(&read).transpose()?;

        let mut graph = capture(&device, &step);
        if !graph.is_hardware() {
            return Err(BenchmarkError::NoGraph(format!("{device:?}")));
        }
        let mut replayed = Timing::new(warmup);
        for _ in 0..warmup + steps {
            let started = Instant::now();
            // SAFETY: the tensors that `step` reads and the graph outlive the replay, which `sync` waits for, and
            // nothing else uses them until then.
            unsafe { graph.replay() };
            sync()?;
            replayed.add(started.elapsed(), Default::default());
        }
        let found = read(graph.output())?;
        if expected.is_some_and(|expected| expected != found) {
            return Err(BenchmarkError::GraphDiffers { batch_size });
        }
        Ok(GraphResult {
            batch_size,
            padded: (height, width),
            launched_ms: launched.percentiles(),
            replayed_ms: replayed.percentiles(),
        })
    }
}
