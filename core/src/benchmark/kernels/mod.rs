//! Benchmark of single kernels: the convolutions, matrix products and detection operators of a network, each beside the
//! time that its bytes and floating-point operations take at the rates of the same run.

mod case;
mod convolutions;
mod layers;
mod operators;
mod rates;
mod scene;
mod selection;
mod targets;

pub use case::KernelSpec;
pub use rates::Rates;

use super::{BenchmarkError, Percentiles};
use crate::config::Config;
use burn::tensor::Device;
use case::{Case, time};
use scene::Scene;
use serde::Serialize;

/// Rates of the device and the times of its kernels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelReport {
    /// Rates that were measured in the same run.
    pub rates: Rates,
    /// One result per kernel and problem.
    pub kernels: Vec<KernelResult>,
}

/// Times of a kernel for one problem.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelResult {
    /// Operator and pass, e.g. `conv 3x3, weight gradient`.
    pub kernel: String,
    /// Sizes of its tensors.
    pub problem: String,
    /// Number of layers of the network with this problem; 1 for other operators.
    pub layers: usize,
    /// Milliseconds per launch.
    pub ms: Percentiles,
    /// Minimum of bytes to move: inputs read once, outputs written once.
    pub bytes: u64,
    /// Floating-point operations, two per multiply-add.
    pub flops: u64,
    /// Milliseconds that `bytes` or `flops` take at the measured rates, whichever is more.
    pub floor_ms: f64,
}

/// Times the kernels of the configured network, at the size to which `config` resizes a landscape image.
/// `on_progress` receives the name of each kernel before it is timed.
pub fn benchmark_kernels(
    spec: &KernelSpec,
    config: &Config,
    device: &Device,
    on_progress: &mut dyn FnMut(&str),
) -> Result<KernelReport, BenchmarkError> {
    if spec.steps == 0 {
        return Err(BenchmarkError::Zero("the number of steps"));
    }
    if spec.batch_size == 0 {
        return Err(BenchmarkError::Zero("a batch size"));
    }
    let mut config = config.clone();
    if config.model.num_classes == 0 {
        config.model.num_classes = super::SYNTHETIC_CLASSES;
    }
    config.check()?;
    let device = device.clone().without_autodiff();
    let scene = Scene::new(&config, spec.batch_size);
    let mut cases = convolutions::cases(&config, &scene, spec.dtype);
    cases.extend(operators::pooling(&config, &scene, spec.dtype));
    cases.extend(selection::cases(&config, &scene));
    cases.extend(targets::cases(&config, &scene));
    cases.extend(operators::updates(&config));
    let is_selected = |case: &Case| {
        let name = format!("{} {}", case.kernel, case.problem);
        spec.only.is_empty() || spec.only.iter().any(|part| name.contains(part.as_str()))
    };
    cases.retain(is_selected);
    if cases.is_empty() {
        return Err(BenchmarkError::NoKernel(spec.only.join(", ")));
    }
    on_progress("rates of the device");
    let rates = Rates::measure(spec, &device)?;
    let mut kernels = Vec::with_capacity(cases.len());
    for case in cases {
        on_progress(&format!("{}, {}", case.kernel, case.problem));
        let launch = (case.prepare)(&device);
        let ms = time(spec, &device, &*launch)?;
        kernels.push(KernelResult {
            kernel: case.kernel,
            problem: case.problem,
            layers: case.layers,
            ms,
            bytes: case.bytes,
            flops: case.flops,
            floor_ms: rates.floor_ms(case.bytes, case.flops),
        });
    }
    Ok(KernelReport { rates, kernels })
}

#[cfg(test)]
mod tests;
