//! What a run will need in memory, told before its first step.

use crate::config::{Config, NormKind, OptimizerKind};
use crate::data::Dataset;
use crate::model::{MaskRcnn, ResNet};
use crate::train::input::augment::Augment;
use crate::train::input::loader;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};
use std::fmt;

/// Bytes of an f32.
const FLOAT: u64 = 4;

/// Bytes that training will need, by what for. An estimate: see [`MemoryPlan::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// The weights, and their copies in the activations' format where that is another.
    pub parameters: u64,
    /// A gradient for each trained weight and replica; two with micro-batches.
    pub gradients: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// The averaged weights, where `train.ema` is on.
    pub averaged: u64,
    /// Shapes of batches, the largest last.
    pub buckets: Vec<Bucket>,
}

/// Batches of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// `wide`, `upright` or `mixed`; `bucket` with `data.buckets`.
    pub name: &'static str,
    /// `[n, 3, h, w]`.
    pub shape: [usize; 4],
    /// Bytes kept from the forward pass for the backward one, and the work space of the largest layer.
    pub activations: u64,
}

impl MemoryPlan {
    /// Plans a run of `model` on `dataset`.
    ///
    /// Activations are counted layer by layer: what the backward pass needs of each part that learns.
    /// As many objects are counted as regions may be sampled for, so pictures of few objects need less.
    /// A test holds two small presets to the peak measured on the processor within a factor of 1.5; a
    /// GPU's tuning of kernels takes more for a while.
    pub fn new(model: &MaskRcnn, config: &Config, dataset: &Dataset) -> Self {
        let mut count = Count::default();
        model.visit(&mut count);
        let moments = match config.train.optimizer {
            OptimizerKind::Sgd => 1,
            OptimizerKind::Adamw => 2,
        };
        // With micro-batches, those of the present one and the sum of those before.
        let gradients = config.train.replicas.max(config.train.accumulate.min(2));
        let averaged = if config.train.ema > 0.0 { count.all } else { 0 };
        let bytes = bytes(model.format());
        let copies = if bytes < FLOAT { bytes } else { 0 };
        Self {
            parameters: count.all * (FLOAT + copies),
            gradients: count.trained * FLOAT * gradients as u64,
            optimizer: count.trained * FLOAT * moments,
            averaged: averaged * FLOAT,
            buckets: buckets(config, bytes, dataset),
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

    /// What to do where only `available` bytes are there; none if the plan fits.
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

/// Settings that lower the memory of a run.
pub const LOWER: &str = "lower train.batch_size (the learning rate follows) or raise \
                         train.accumulate (it does not), lower image.max_size, image.min_size, \
                         augment.min_sizes, model.roi.batch_per_image or \
                         model.rpn.post_nms_train, or freeze more (--freeze-at)";

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

/// The shapes that the pictures of a data set make.
fn buckets(config: &Config, bytes: u64, dataset: &Dataset) -> Vec<Bucket> {
    let pictures = config.train.batch_size.div_ceil(config.train.accumulate);
    if let Some(buckets) = loader::buckets(dataset, config) {
        let planned = buckets.shapes().into_iter().map(|(height, width)| {
            let shape = [pictures, 3, height, width];
            Bucket {
                name: "bucket",
                shape,
                activations: activations(config, bytes, shape),
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
        let shape = [pictures, 3, height, width];
        Some(Bucket {
            name,
            shape,
            activations: activations(config, bytes, shape),
        })
    };
    let found = [
        bucket("wide", &|size| size.0 <= size.1),
        bucket("upright", &|size| size.0 > size.1),
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

/// Bytes of an activation.
fn bytes(format: FloatDType) -> u64 {
    match format {
        FloatDType::F16 | FloatDType::BF16 => 2,
        _ => FLOAT,
    }
}

/// Bytes that the backward pass needs of an element of a convolution's output with a norm and a ReLU behind
/// it; `bytes` of an activation. Norms compute in f32.
fn kept(norm: NormKind, bytes: u64) -> u64 {
    match norm {
        // The ReLU's output, which is the next layer's input.
        NormKind::None | NormKind::FrozenBn => bytes,
        NormKind::BatchNorm => FLOAT + bytes,
        // Centred, normalised, and the ReLU's output.
        NormKind::GroupNorm => 2 * FLOAT + bytes,
    }
}

fn activations(config: &Config, bytes: u64, [n, _, height, width]: [usize; 4]) -> u64 {
    let model = &config.model;
    let cells = |stride: usize| (height.div_ceil(stride) * width.div_ceil(stride)) as u64;
    let of_norm = kept(model.norm, bytes);
    let (mut sum, mut largest) = (0, 0);
    let mut layer = |channels: usize, stride: usize, bytes_kept: u64, learns: bool| {
        let size = channels as u64 * cells(stride);
        largest = largest.max(size * bytes);
        sum += if learns { size * bytes_kept } else { 0 };
    };
    // The stem computes in f32.
    layer(
        model.width,
        2,
        kept(model.norm, FLOAT),
        model.freeze_at == 0,
    );
    let channels = ResNet::channels(model);
    for (stage, (&blocks, channels)) in model.backbone.blocks().iter().zip(channels).enumerate() {
        let (width, stride) = (model.width << stage, 4 << stage);
        // A frozen stage keeps nothing unless something before it learns, which cannot be.
        let learns = model.freeze_at < stage + 2;
        for block in 0..blocks {
            let before = if block == 0 && stage > 0 {
                stride / 2
            } else {
                stride
            };
            if model.backbone.expansion() > 1 {
                layer(width, before, of_norm, learns);
            }
            layer(width, stride, of_norm, learns);
            layer(channels, stride, of_norm, learns);
            if block == 0 {
                // No ReLU of its own.
                layer(channels, stride, of_norm - bytes, learns);
            }
        }
    }
    let fpn = model.fpn_channels;
    for level in 0..5 {
        let stride = 4 << level;
        // Lateral, output, their norms; the packed pyramid that regions are pooled from; the RPN's
        // hidden layer.
        let of_level = 2 * kept(model.head_norm, bytes) + 2 * bytes;
        layer(fpn, stride, of_level, true);
    }
    let rois = model.roi.batch_per_image;
    let objects = (rois as f64 * model.roi.positive_fraction).ceil() as u64;
    let pooled = (fpn * model.box_head.pool.pow(2)) as u64;
    let boxes = rois as u64 * bytes * (2 * pooled + 4 * model.box_head.hidden as u64);
    let head = &model.mask_head;
    let area = head.pool.pow(2) as u64;
    let convs: u64 = head.convs.iter().map(|&c| c as u64).sum();
    // The loss of the logits is f32.
    let logits = FLOAT * 4 * area * model.num_classes.max(1) as u64;
    let features = bytes * (2 * fpn as u64 * area + 8 * head.hidden as u64 * area);
    let masks = features + kept(model.head_norm, bytes) * convs * area;
    let masks = objects * (masks + 3 * logits);
    // Gradients of the largest layer on their way, and a convolution's work space.
    let work = WORK * largest.max(rois as u64 * pooled * bytes);
    n as u64 * (sum + boxes + masks + work)
}

/// Copies of the largest layer in flight in the backward pass, as measured on the processor.
const WORK: u64 = 4;
