//! Benchmark of inference launched kernel by kernel and replayed as a recorded graph.

use super::{
    BenchmarkError, BenchmarkSpec, Percentiles, SYNTHETIC_CLASSES, Timing, synthetic_images,
};
use crate::config::Config;
use crate::image::transform::{Planes, prepare};
use crate::model::{DetectionSlots, MaskRcnn, ScoredBox};
use crate::predict::{PredictError, input};
use burn::module::Module;
use burn::tensor::{Device, capture};
use mrcnn_kernels::{can_select, has_selection_kernels};
use serde::Serialize;
use std::time::Instant;

/// Inference times for one batch size, launched kernel by kernel and replayed as a graph: from images on the device to
/// detection slots and their mask logits on the device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GraphResult {
    /// Images per step.
    pub batch_size: usize,
    /// Height and width of the padded images.
    pub padded: (usize, usize),
    /// Milliseconds per step with kernels launched one by one.
    pub launched_ms: Percentiles,
    /// Milliseconds per step that replays the graph.
    pub replayed_ms: Percentiles,
}

/// Benchmarks both for each batch size of `spec`, on rendered images. Fails if the device records no graph, or if the
/// replay returns other boxes.
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
    let device = device.clone().without_autodiff();
    let model = match model {
        Some(model) => model.valid(),
        None => MaskRcnn::new(&config.model, config.train.seed, &device),
    };
    let model = model.with_precision(spec.precision).prepared().model;
    if !has_selection_kernels(&device) || !can_select(&device, &model.selection_limits()) {
        return Err(BenchmarkError::NoGraph(format!("{device:?}")));
    }
    let (warmup, steps) = (spec.warmup, spec.steps);
    let sizes = spec.batch_sizes.iter().map(|&batch_size| {
        on_progress(&format!(
            "batch size {batch_size}: {warmup} + {steps} steps, launched and replayed"
        ));
        one_size(&config, &model, [warmup, steps], batch_size, &device)
    });
    sizes.collect()
}

fn one_size(
    config: &Config,
    model: &MaskRcnn,
    [warmup, steps]: [usize; 2],
    batch_size: usize,
    device: &Device,
) -> Result<GraphResult, BenchmarkError> {
    let (images, _) = synthetic_images(batch_size, config.model.num_classes - 1);
    let planes: Vec<Planes> = images
        .iter()
        .map(|image| prepare(image, &config.image))
        .collect();
    let (images, sizes) = input(&planes, &config.image, device);
    let [_, _, height, width] = images.dims();
    let padded = (height, width);
    let infer = || model.detect_in_slots(images.clone(), &sizes);
    let sync = || device.sync().map_err(PredictError::from);

    let mut launched = Timing::new(warmup);
    let mut expected = None;
    for _ in 0..warmup + steps {
        let started = Instant::now();
        let output = infer();
        sync()?;
        launched.add(started.elapsed(), Default::default());
        expected = Some(output);
    }
    let expected = expected.map(|(slots, _)| read(slots)).transpose()?;

    let mut graph = capture(device, infer);
    if !graph.is_hardware() {
        return Err(BenchmarkError::NoGraph(format!("{device:?}")));
    }
    let mut replayed = Timing::new(warmup);
    for _ in 0..warmup + steps {
        let started = Instant::now();
        // SAFETY: the model, the images and the graph outlive the replay, which `sync` waits for, and nothing else
        // uses them until then.
        unsafe { graph.replay() };
        sync()?;
        replayed.add(started.elapsed(), Default::default());
    }
    let replayed_boxes = read(graph.output().0.clone())?;
    if expected.is_some_and(|expected| expected != replayed_boxes) {
        return Err(BenchmarkError::GraphDiffers { batch_size });
    }
    Ok(GraphResult {
        batch_size,
        padded,
        launched_ms: launched.percentiles(),
        replayed_ms: replayed.percentiles(),
    })
}

fn read(slots: DetectionSlots) -> Result<Vec<Vec<ScoredBox>>, BenchmarkError> {
    Ok(pollster::block_on(slots.read()).map_err(PredictError::from)?)
}
