//! The five losses (torchvision's normalisation).

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{ExecutionError, Gradients, Int, Tensor};
use std::ops::Mul;

/// Scalars, each `[1]`, still on the device.
#[derive(Clone, Debug)]
pub struct Losses {
    /// Cross entropy of the sampled regions' classes.
    pub classifier: Tensor<1>,
    /// Smooth L1 of the objects' box deltas over all sampled regions.
    pub box_reg: Tensor<1>,
    /// Binary cross entropy of the objects' masks.
    pub mask: Tensor<1>,
    /// Binary cross entropy of the sampled anchors.
    pub objectness: Tensor<1>,
    /// Smooth L1 of the object anchors' deltas over all sampled anchors.
    pub rpn_box_reg: Tensor<1>,
}

impl Losses {
    /// The names in the order of [`Losses::values`].
    pub const NAMES: [&'static str; 5] = [
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
        "loss_objectness",
        "loss_rpn_box_reg",
    ];

    /// What is minimised: the sum.
    pub fn total(&self) -> Tensor<1> {
        self.classifier.clone()
            + self.box_reg.clone()
            + self.mask.clone()
            + self.objectness.clone()
            + self.rpn_box_reg.clone()
    }

    /// Each loss times its factor, a number or a tensor `[1]`, in the order of [`Losses::NAMES`].
    pub fn scaled<F>(self, by: [F; 5]) -> Self
    where
        Tensor<1>: Mul<F, Output = Tensor<1>>,
    {
        let [classifier, box_reg, mask, objectness, rpn_box_reg] = by;
        Self {
            classifier: self.classifier * classifier,
            box_reg: self.box_reg * box_reg,
            mask: self.mask * mask,
            objectness: self.objectness * objectness,
            rpn_box_reg: self.rpn_box_reg * rpn_box_reg,
        }
    }

    /// The gradients of [`Self::total`] times `scale`, see [`crate::train::LossScaler`].
    pub fn backward(&self, scale: f64) -> Gradients {
        match scale == 1.0 {
            true => self.total().backward(),
            false => (self.total() * scale).backward(),
        }
    }

    /// All five as one tensor `[5]`, for a single read.
    pub fn values(&self) -> Tensor<1> {
        let all = [
            &self.classifier,
            &self.box_reg,
            &self.mask,
            &self.objectness,
            &self.rpn_box_reg,
        ];
        Tensor::cat(all.into_iter().cloned().collect(), 0)
    }
}

/// Reads [`Losses::values`] from the device.
pub(crate) fn read_losses(values: Tensor<1>) -> Result<[f32; 5], ExecutionError> {
    let values = values.try_into_data()?;
    let mut read = values.iter::<f32>();
    Ok(std::array::from_fn(|_| read.next().unwrap_or(f32::NAN)))
}

/// Where smooth L1 turns from a parabola into a line.
const BETA: f64 = 1.0 / 9.0;

/// Binary cross entropy of logits, element by element, without overflow.
pub fn bce_with_logits<const D: usize>(logits: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
    // -[t log s(x) + (1 - t) log(1 - s(x))] = (1 - t) x - log s(x)
    (targets.neg() + 1.0) * logits.clone() - log_sigmoid(logits)
}

/// Smooth L1, element by element.
pub fn smooth_l1<const D: usize>(difference: Tensor<D>) -> Tensor<D> {
    let size = difference.abs();
    // min(d, beta) * (d - min(d, beta) / 2) / beta: the parabola below beta, the line above.
    let near = size.clone().clamp_max(BETA);
    near.clone() * (size - near * 0.5) / BETA
}

/// RPN losses: objectness and box deltas.
///
/// `objectness [n, a]`, `deltas [n, a, 4]`; `labels`, `sampled`, `objects [n, a]` and `targets
/// [n, a, 4]` as in [`crate::train::RpnTargets`]; `count` sampled anchors in all.
pub fn rpn_losses(
    [objectness, labels, sampled, objects]: [Tensor<2>; 4],
    [deltas, targets]: [Tensor<3>; 2],
    count: usize,
) -> (Tensor<1>, Tensor<1>) {
    let count = count.max(1) as f64;
    let objectness = (bce_with_logits(objectness, labels) * sampled).sum() / count;
    let difference = (deltas - targets) * objects.unsqueeze_dim(2);
    (objectness, smooth_l1(difference).sum() / count)
}

/// Box head losses: class and box deltas.
///
/// `logits [r, k]`, `deltas [r, 4k]`; `labels [r]`; `targets [r, 4]`; `weights [r]` is 1 for real
/// regions, 0 for padding.
pub fn box_losses(
    logits: Tensor<2>,
    deltas: Tensor<2>,
    labels: &[usize],
    targets: Tensor<2>,
    weights: Tensor<1>,
    count: usize,
) -> (Tensor<1>, Tensor<1>) {
    let device = logits.device();
    let [regions, _] = logits.dims();
    let count = count.max(1) as f64;
    let index = |columns: Vec<i32>| {
        let width = columns.len() / regions;
        Tensor::<1, Int>::from_data(columns.as_slice(), &device).reshape([regions, width])
    };
    let class = index(labels.iter().map(|&label| label as i32).collect());
    let chosen = log_softmax(logits, 1).gather(1, class).reshape([regions]);
    let classifier = (chosen.neg() * weights.clone()).sum() / count;

    let columns = labels
        .iter()
        .flat_map(|&label| (0..4).map(move |i| (label * 4 + i) as i32));
    let predicted = deltas.gather(1, index(columns.collect()));
    let is_object: Vec<f32> = labels.iter().map(|&label| f32::from(label > 0)).collect();
    let is_object = Tensor::<1>::from_floats(is_object.as_slice(), &device) * weights;
    let difference = (predicted - targets) * is_object.unsqueeze_dim(1);
    (classifier, smooth_l1(difference).sum() / count)
}

/// Mask loss: `logits [r, k, s, s]` of the classes `labels` against `targets [r, s * s]`; `count` real
/// objects, 0 if the only region is padding.
pub fn mask_loss(
    logits: Tensor<4>,
    labels: &[usize],
    targets: Tensor<2>,
    count: usize,
) -> Tensor<1> {
    let device = logits.device();
    let [regions, classes, height, width] = logits.dims();
    let cells = height * width;
    let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
    let index = Tensor::<1, Int>::from_data(labels.as_slice(), &device)
        .reshape([regions, 1, 1])
        .repeat_dim(2, cells);
    let chosen = logits.reshape([regions, classes, cells]).gather(1, index);
    let loss = bce_with_logits(chosen.reshape([regions, cells]), targets).sum();
    // No object: exactly 0, but with a gradient (of 0) for every parameter.
    if count == 0 {
        loss * 0.0
    } else {
        loss / (count * cells) as f64
    }
}
