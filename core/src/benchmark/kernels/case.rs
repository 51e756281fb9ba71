//! A kernel with its problem, and its timing.

use crate::benchmark::{BenchmarkError, Percentiles, Timing};
use crate::predict::PredictError;
use burn::tensor::{Device, FloatDType};
use std::any::Any;
use std::time::{Duration, Instant};

/// Settings of a benchmark of kernels.
#[derive(Clone, Debug)]
pub struct KernelSpec {
    /// Images per batch.
    pub batch_size: usize,
    /// Launches before the timed ones, after a first one that compiles and tunes the kernel.
    pub warmup: usize,
    /// Timed samples per kernel.
    pub steps: usize,
    /// Dtype of layers, max pool and RoIAlign; selection, targets and updates are f32.
    pub dtype: FloatDType,
    /// Parts of the names or problems of the kernels to time; all if empty.
    pub only: Vec<String>,
}

/// Output of a launch, kept until the device has finished.
pub(super) type Output = Box<dyn Any>;

/// Launches a kernel.
pub(super) type Launch = Box<dyn Fn() -> Output>;

/// A kernel and its problem. Its tensors exist only while it is timed.
pub(super) struct Case {
    pub(super) kernel: String,
    pub(super) problem: String,
    pub(super) layers: usize,
    pub(super) bytes: u64,
    pub(super) flops: u64,
    /// Creates the tensors; the result launches the kernel.
    pub(super) prepare: Box<dyn FnOnce(&Device) -> Launch>,
}

impl Case {
    /// `least` is `[bytes, flops]`: the minimum of bytes to move, and the floating-point operations.
    pub(super) fn new<O: 'static, F: Fn() -> O + 'static>(
        kernel: impl Into<String>,
        problem: impl Into<String>,
        least: [usize; 2],
        prepare: impl FnOnce(&Device) -> F + 'static,
    ) -> Self {
        let [bytes, flops] = least.map(|count| count as u64);
        Self {
            kernel: kernel.into(),
            problem: problem.into(),
            layers: 1,
            bytes,
            flops,
            prepare: Box::new(|device| {
                let launch = prepare(device);
                Box::new(move || Box::new(launch()) as Output)
            }),
        }
    }

    /// The same kernel, of which the network has `layers`.
    pub(super) fn of_layers(self, layers: usize) -> Self {
        Self { layers, ..self }
    }
}

/// Target duration of a sample, so that waiting for the device is a small part of it.
const SAMPLE: Duration = Duration::from_millis(2);
/// Maximum number of launches per sample.
const MAX_LAUNCHES: u32 = 20;

/// Milliseconds per launch.
pub(super) fn time(
    spec: &KernelSpec,
    device: &Device,
    launch: &dyn Fn() -> Output,
) -> Result<Percentiles, BenchmarkError> {
    let run = |launches: u32| -> Result<Duration, BenchmarkError> {
        let started = Instant::now();
        let outputs: Vec<Output> = (0..launches).map(|_| launch()).collect();
        device.sync().map_err(PredictError::from)?;
        let elapsed = started.elapsed();
        drop(outputs);
        Ok(elapsed / launches)
    };
    let mut one = run(1)?;
    for _ in 0..spec.warmup {
        one = run(1)?;
    }
    let launches = SAMPLE.as_nanos() / one.as_nanos().max(1) + 1;
    let launches = (launches as u32).clamp(1, MAX_LAUNCHES);
    let mut timing = Timing::new(0);
    for _ in 0..spec.steps {
        timing.add(run(launches)?, Duration::ZERO);
    }
    Ok(timing.percentiles())
}
