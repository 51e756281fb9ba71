//! Memory estimate of a run, reported before its first step.

use crate::config::{Config, OptimizerKind};
use crate::data::Dataset;
use crate::model::{FLOAT, MaskRcnn, bytes_of};
use crate::train::error::LOWER;
use crate::train::input::augment::Augment;
use crate::train::input::buckets;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use mrcnn_kernels::can_prepare_weights;
use std::fmt;

/// Bytes that training will need, by purpose. An estimate: see [`MemoryPlan::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// The weights, and their copies in the dtype of the activations if it differs or if weights are prepared on a GPU.
    pub parameters: u64,
    /// A gradient per trained weight and replica; two with micro-batches.
    pub gradients: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// The averaged weights, if `train.ema` is on.
    pub averaged: u64,
    /// Shapes of batches, the largest last.
    pub buckets: Vec<Bucket>,
}

/// Batches of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// `landscape`, `portrait` or `mixed`; `bucket` with `data.buckets`.
    pub name: &'static str,
    /// `[n, 3, h, w]`.
    pub shape: [usize; 4],
    /// Bytes kept from the forward pass for the backward pass, and the work space of the largest layer.
    pub activations: u64,
}

impl MemoryPlan {
    /// Estimates the memory of a run of `model` on `dataset`.
    ///
    /// Activations are counted layer by layer: what the backward pass needs of each part with trained parameters.
    /// As many objects are counted as RoIs may be sampled, so images with few objects need less.
    /// A test checks that the estimate for two small presets is within a factor of 1.5 of the peak measured on the CPU;
    /// autotuning on a GPU temporarily needs more.
    pub fn new(model: &MaskRcnn, config: &Config, dataset: &Dataset) -> Self {
        Self::of_rank(model, config, dataset, false)
    }

    /// [`Self::new`] for a rank, whose graph may be cut at the pyramid.
    pub(super) fn of_rank(
        model: &MaskRcnn,
        config: &Config,
        dataset: &Dataset,
        is_cut: bool,
    ) -> Self {
        let mut count = Count::default();
        model.visit(&mut count);
        let moments = match config.train.optimizer {
            OptimizerKind::Sgd => 1,
            OptimizerKind::Adamw => 2,
        };
        // With micro-batches: the gradients of the current one and the sum of those before.
        let gradients = config.train.replicas.max(config.train.accumulate.min(2));
        let averaged = if config.train.ema > 0.0 { count.all } else { 0 };
        let bytes = bytes_of(model.dtype());
        // Prepared weights. In f32 only those with folded norms, about half of R50-FPN, are copied; all are counted.
        let has_copies = bytes < FLOAT || can_prepare_weights(&model.device());
        let copies = if has_copies { bytes } else { 0 };
        Self {
            parameters: count.all * (FLOAT + copies),
            gradients: count.trained * FLOAT * gradients as u64,
            optimizer: count.trained * FLOAT * moments,
            averaged: averaged * FLOAT,
            buckets: buckets(model, config, dataset, is_cut),
        }
    }

    /// Bytes at the largest bucket.
    pub fn largest(&self) -> u64 {
        let activations = self.buckets.last().map_or(0, |bucket| bucket.activations);
        self.parameters + self.gradients + self.optimizer + self.averaged + activations
    }

    /// Bytes of a checkpoint: the weights, the optimizer's moments, the averaged weights.
    pub fn checkpoint(&self) -> u64 {
        self.parameters + self.optimizer + self.averaged
    }

    /// Advice if only `available` bytes are free; `None` if the estimate fits.
    pub fn warning(&self, available: u64) -> Option<String> {
        (self.largest() > available).then(|| {
            format!(
                "the run may need {} and {} are free: {LOWER}",
                shown(self.largest()),
                shown(available)
            )
        })
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory plan: weights {}, gradients {}, optimizer {}",
            shown(self.parameters),
            shown(self.gradients),
            shown(self.optimizer)
        )?;
        if self.averaged > 0 {
            write!(f, ", averaged weights {}", shown(self.averaged))?;
        }
        for bucket in &self.buckets {
            let ([n, _, h, w], activations) = (bucket.shape, shown(bucket.activations));
            write!(
                f,
                ", activations {activations} ({} {n} x {h}x{w})",
                bucket.name
            )?;
        }
        write!(f, "; {} at most", shown(self.largest()))
    }
}

fn shown(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes => format!("{:.0} MB", bytes / 1e6),
    }
}

#[derive(Default)]
struct Count {
    all: u64,
    trained: u64,
}

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let count = value.shape().num_elements() as u64;
        self.all += count;
        if value.is_require_grad() {
            self.trained += count;
        }
    }
}

/// The padded shapes of a dataset's batches.
fn buckets(model: &MaskRcnn, config: &Config, dataset: &Dataset, is_cut: bool) -> Vec<Bucket> {
    let activations = |[n, _, height, width]: [usize; 4]| {
        n as u64 * model.activation_bytes(height, width, is_cut)
    };
    let images = config.train.batch_size.div_ceil(config.train.accumulate);
    if let Some(buckets) = buckets::buckets(dataset, config) {
        let planned = buckets.shapes().into_iter().map(|(height, width)| {
            let shape = [images, 3, height, width];
            Bucket {
                name: "bucket",
                shape,
                activations: activations(shape),
            }
        });
        let mut planned: Vec<Bucket> = planned.collect();
        planned.sort_by_key(|bucket| bucket.activations);
        return planned;
    }
    let augment = Augment::new(config);
    let sizes: Vec<(u32, u32)> = dataset
        .samples
        .iter()
        .map(|sample| augment.largest((sample.height, sample.width)))
        .collect();
    let divisor = config.image.size_divisor as usize;
    let least = config.image.smallest_batch();
    let up = |length: usize| length.div_ceil(divisor) * divisor;
    let bucket = |name, wanted: &dyn Fn(&(u32, u32)) -> bool| {
        let those = || sizes.iter().filter(|size| wanted(size));
        let height = those().map(|size| size.0).max()? as usize;
        let width = those().map(|size| size.1).max()? as usize;
        let (height, width) = (up(height.max(least.0)), up(width.max(least.1)));
        let shape = [images, 3, height, width];
        Some(Bucket {
            name,
            shape,
            activations: activations(shape),
        })
    };
    let found = [
        bucket("landscape", &|size| size.0 <= size.1),
        bucket("portrait", &|size| size.0 > size.1),
        bucket("mixed", &|_| true),
    ];
    let mut buckets: Vec<Bucket> = Vec::new();
    for bucket in found.into_iter().flatten() {
        if buckets.iter().all(|other| other.shape != bucket.shape) {
            buckets.push(bucket);
        }
    }
    buckets.sort_by_key(|bucket| bucket.activations);
    buckets
}
