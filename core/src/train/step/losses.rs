//! The training losses by name, divided as in torchvision.

use super::features::LossFeatures;
use super::samples::{AnchorSamples, RoiSamples, SampleCounts, Samples};
use crate::model::{AnchorPredictions, MaskRcnn, reorder_targets};
use burn::tensor::{Gradients, Int, Tensor};
use mrcnn_kernels::{Divisor, ElementLoss, RowWeights, class_loss, cross_entropy};

/// Declares [`Losses`] and their names from one list.
macro_rules! named_losses {
    ($($(#[$doc:meta])* $loss:ident,)*) => {
        /// Scalars, each `[1]`, still on the device. Log keys are the field names with the prefix `loss_`.
        #[derive(Clone, Debug)]
        pub struct Losses {
            $($(#[$doc])* pub $loss: Tensor<1>,)*
        }

        impl Losses {
            /// The names, in the order of [`Losses::values`].
            pub const NAMES: [&'static str; [$(stringify!($loss)),*].len()] =
                [$(concat!("loss_", stringify!($loss))),*];

            /// All of them as one tensor, in the order of [`Losses::NAMES`].
            pub fn values(&self) -> Tensor<1> {
                Tensor::cat(self.all().into(), 0)
            }

            /// The losses, in the order of [`Losses::NAMES`].
            pub(crate) fn all(&self) -> [Tensor<1>; Self::NAMES.len()] {
                [$(self.$loss.clone()),*]
            }
        }
    };
}

// To add a loss, add a line here and one in `losses`. Logs, curves, accumulation and averages use its name.
named_losses! {
    /// Cross entropy of the sampled RoIs' classes.
    classifier,
    /// Smooth L1 of the objects' box deltas, over all sampled RoIs.
    box_reg,
    /// Binary cross entropy of the objects' masks.
    mask,
    /// Binary cross entropy of the sampled anchors.
    objectness,
    /// Smooth L1 of the object anchors' deltas, over all sampled anchors.
    rpn_box_reg,
}

/// The losses of `samples`, summed and divided by `counts`: the counts of the batch, or of the whole step
/// if the batch is a shard or micro-batch of it.
pub fn losses(
    model: &MaskRcnn,
    features: impl Into<LossFeatures>,
    samples: &Samples,
    counts: &SampleCounts,
) -> Losses {
    let LossFeatures {
        packed, grids, rpn, ..
    } = features.into();
    let device = packed.device();
    let samples = samples.on(&device);
    let [anchors, rois, objects] = counts.divisors();
    let (config, index) = (&model.config().rpn, samples.anchors.index.clone());
    let predictions = match rpn {
        Some(rpn) => rpn.at(index),
        None => model.rpn.at_anchors(&packed, &grids, config, index),
    };
    let (objectness, rpn_box_reg) = rpn_losses(predictions, &samples.anchors, anchors);
    let Samples {
        rois: sampled,
        masks,
        ..
    } = &samples;
    let (logits, deltas) = model.box_head_of_samples(&packed, &sampled.rois, &sampled.valid);
    let (classifier, box_reg) = box_losses(logits, deltas, sampled, rois);
    let logits = model.mask_head_of_samples(&packed, &masks.rois, &masks.valid);
    let targets = reorder_targets(masks.targets.clone());
    let rows = (masks.labels.clone(), masks.valid.clone());
    Losses {
        classifier,
        box_reg,
        mask: mask_loss(logits, targets, rows, objects),
        objectness,
        rpn_box_reg,
    }
}

impl Losses {
    /// The sum of the losses, which is minimized.
    pub fn total(&self) -> Tensor<1> {
        // Not `self.values().sum()`, whose gradient would be sliced again for each loss.
        let [first, rest @ ..] = self.all();
        rest.into_iter().fold(first, |sum, loss| sum + loss)
    }

    /// The gradients of [`Self::total`] times `scale`, the loss scale of f16 training.
    pub fn backward(&self, scale: f64) -> Gradients {
        match scale == 1.0 {
            true => self.total().backward(),
            false => (self.total() * scale).backward(),
        }
    }
}

/// The losses of a step as numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossValues([f32; Losses::NAMES.len()]);

impl LossValues {
    /// Calls `value` with each name to get its value.
    pub fn from_fn(value: impl FnMut(&'static str) -> f32) -> Self {
        Self(Losses::NAMES.map(value))
    }

    /// The first of `values`, in the order of [`Losses::NAMES`]; NaN if there are too few.
    pub(crate) fn first_of(mut values: impl Iterator<Item = f32>) -> Self {
        Self::from_fn(|_| values.next().unwrap_or(f32::NAN))
    }

    /// Names and values, in the order of [`Losses::NAMES`].
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f32)> {
        Losses::NAMES.into_iter().zip(self.0)
    }

    /// The value of a name such as `loss_mask`.
    pub fn get(&self, name: &str) -> Option<f32> {
        let mut named = self.named();
        named
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// The sum.
    pub fn total(&self) -> f32 {
        self.0.iter().sum()
    }

    /// Whether all of them are finite.
    pub fn is_finite(&self) -> bool {
        self.0.iter().all(|value| value.is_finite())
    }
}

/// Loss of box deltas.
const BOX_LOSS: ElementLoss = ElementLoss::SmoothL1 { beta: 1.0 / 9.0 };

/// RPN losses: objectness and box deltas of the samples, divided by `count`.
fn rpn_losses(
    predictions: AnchorPredictions,
    samples: &AnchorSamples,
    count: Divisor,
) -> (Tensor<1>, Tensor<1>) {
    let AnchorSamples {
        labels,
        deltas,
        valid,
        ..
    } = samples.clone();
    let AnchorPredictions {
        logits,
        deltas: predicted,
        ratio,
    } = predictions;
    let [rows, ..] = logits.dims();
    let objectness = class_loss(
        logits,
        ratio.clone(),
        labels.clone().reshape([rows, 1]),
        RowWeights::Given(valid.reshape([rows])),
        count.clone(),
        ElementLoss::BinaryCrossEntropy,
    );
    let box_reg = class_loss(
        predicted,
        ratio,
        deltas.reshape([rows, 4]),
        RowWeights::Given(labels.reshape([rows])),
        count,
        BOX_LOSS,
    );
    (objectness, box_reg)
}

/// Box head losses `[1]`: class and box deltas, divided by `count`; `logits [r, k]` and `deltas [r, 4k]`.
pub fn box_losses(
    logits: Tensor<2>,
    deltas: Tensor<2>,
    samples: &RoiSamples,
    count: Divisor,
) -> (Tensor<1>, Tensor<1>) {
    let [r, classes] = logits.dims();
    let (labels, valid) = (samples.labels.clone(), samples.valid.clone());
    let classifier = cross_entropy(logits, labels.clone(), valid, count.clone());
    let box_reg = class_loss(
        deltas.reshape([r, classes, 4]),
        Some(labels),
        samples.deltas.clone(),
        RowWeights::OfObjects,
        count,
        BOX_LOSS,
    );
    (classifier, box_reg)
}

/// Mask loss `[1]`: `logits [m, k, cells]`, of which only those of the RoI's class `labels [m]` count, and
/// `targets [m, cells]` with the same order of cells, divided by `count` times the cells per mask; `valid [m]` is the
/// valid mask.
pub fn mask_loss(
    logits: Tensor<3>,
    targets: Tensor<2>,
    (labels, valid): (Tensor<1, Int>, Tensor<1>),
    count: Divisor,
) -> Tensor<1> {
    let [_, cells] = targets.dims();
    let Divisor { counts, mut count } = count;
    count.factor *= cells as f64;
    class_loss(
        logits,
        Some(labels),
        targets,
        RowWeights::Given(valid),
        Divisor { counts, count },
        ElementLoss::BinaryCrossEntropy,
    )
}
