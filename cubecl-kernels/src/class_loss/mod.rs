//! Training losses: cross entropy, and element-wise losses of the outputs of each row's class (box deltas, mask
//! logits). On GPUs each is one kernel for the loss with its derivative, one for the sum and one for the gradient; with
//! Burn's operations, the mask loss alone launches forty.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
#[cfg(all(test, feature = "flex"))]
mod tests;

use crate::capability::has_selection_kernels;
use crate::dtype::to_f32;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Int, IntDType, Tensor};

/// A loss of one output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ElementLoss {
    /// Binary cross entropy of a logit.
    BinaryCrossEntropy,
    /// Smooth L1: a parabola below a difference of `beta`, a line above.
    SmoothL1 {
        /// The difference at which the parabola becomes a line.
        beta: f64,
    },
}

/// Binary cross entropy of logits, element by element, without overflow.
pub fn bce_with_logits<const D: usize>(logits: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
    // -[t log s(x) + (1 - t) log(1 - s(x))] = (1 - t) x - log s(x)
    (targets.neg() + 1.0) * logits.clone() - log_sigmoid(logits)
}

/// Smooth L1 of differences, element by element; see [`ElementLoss::SmoothL1`].
fn smooth_l1<const D: usize>(difference: Tensor<D>, beta: f64) -> Tensor<D> {
    let size = difference.abs();
    // min(d, beta) * (d - min(d, beta) / 2) / beta: the parabola below beta, the line above.
    let near = size.clone().clamp_max(beta);
    near.clone() * (size - near * 0.5) / beta
}

/// Factors of the losses of rows.
// Not `expect`: without backends a tensor is small.
#[allow(
    clippy::large_enum_variant,
    reason = "a step has four, and tensors are not boxed"
)]
#[derive(Clone, Debug)]
pub enum RowWeights {
    /// `[r]`, f32.
    Given(Tensor<1>),
    /// 1 for rows with a label above 0, 0 for the others.
    OfObjects,
}

/// Divisor of a sum of losses: `max(counts[index], min) * factor`.
#[derive(Clone, Debug)]
pub struct Divisor {
    /// Numbers of samples, `[n]`, without a graph.
    pub counts: Tensor<1>,
    /// Index, lower bound and factor.
    pub count: Count,
}

/// Index, lower bound and factor of a [`Divisor`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// Index in [`Divisor::counts`].
    pub index: usize,
    /// Its lower bound, so that the loss of no samples is 0.
    pub min: f64,
    /// Factor of the count.
    pub factor: f64,
}

impl Divisor {
    /// The divisor with counts in f32.
    ///
    /// # Panics
    ///
    /// If the index is beyond the counts.
    fn checked(self) -> Self {
        let [counts] = self.counts.dims();
        assert!(
            self.count.index < counts,
            "a divisor must be one of {counts} counts, not number {}",
            self.count.index
        );
        Self {
            counts: to_f32(self.counts),
            ..self
        }
    }

    /// `[1]`, on `device`, which may have autodiff.
    fn value(self, device: &Device) -> Tensor<1> {
        let Count { index, min, factor } = self.count;
        let value = self.counts.clamp_min(min).narrow(0, index, 1);
        let value = if factor == 1.0 { value } else { value * factor };
        on_device(value, device)
    }
}

/// The sum over rows of `weight * loss` for the outputs of the row's class, divided by `divisor`: `[1]`, f32. The
/// gradient of the outputs of other classes is 0.
///
/// * `predicted` - `[r, k, e]`: `e` outputs for each of `k` classes. On GPUs in any float dtype, and either classes or
///   outputs may be adjacent in memory; the gradient has the same dtype and layout.
/// * `labels` - the class of each row, `[r]`, below `k`; `None` if there is one class.
/// * `targets` - `[r, e]`, f32.
/// * `weights` - factors of the losses of each row.
///
/// Differentiable in `predicted`. Sums are f32; on GPUs they are added in a fixed order, so two calls are bit-equal.
///
/// # Panics
///
/// If the shapes do not match, the divisor's index is beyond its counts, or there are several classes or
/// [`RowWeights::OfObjects`] without labels.
pub fn class_loss(
    predicted: Tensor<3>,
    labels: Option<Tensor<1, Int>>,
    targets: Tensor<2>,
    weights: RowWeights,
    divisor: Divisor,
    loss: ElementLoss,
) -> Tensor<1> {
    let [rows, classes, outputs] = predicted.dims();
    assert_eq!(
        targets.dims(),
        [rows, outputs],
        "class_loss: a target per output of a class"
    );
    if let RowWeights::Given(weights) = &weights {
        assert_eq!(weights.dims(), [rows], "class_loss: a weight per row");
    }
    let has_weights_by_label = matches!(weights, RowWeights::OfObjects);
    assert!(
        labels.is_some() || classes == 1 && !has_weights_by_label,
        "class_loss: {classes} classes or weights by label need labels"
    );
    let count = labels.as_ref().map_or(rows, |labels| labels.dims()[0]);
    assert_eq!(count, rows, "class_loss: a label per row");
    let (targets, divisor) = (to_f32(targets), divisor.checked());
    let device = predicted.device();
    if !has_selection_kernels(&device) || rows * outputs == 0 {
        let divisor = divisor.value(&device);
        return by_operations(to_f32(predicted), labels, targets, weights, loss) / divisor;
    }
    let plain = device.clone().inner();
    // Not read with one class and given weights.
    let labels = labels.unwrap_or_else(|| Tensor::empty([1], &plain));
    // Not read with weights by label.
    let weights = match weights {
        RowWeights::Given(weights) => to_f32(weights),
        RowWeights::OfObjects => on_device(Tensor::empty([1], &plain), &device),
    };
    Tensor::from_dispatch(<Dispatch as ClassLossOps>::class_loss(
        predicted.into_dispatch(),
        labels.cast(IntDType::I32).into_dispatch(),
        targets.into_dispatch(),
        weights.into_dispatch(),
        on_device(divisor.counts, &device).into_dispatch(),
        loss,
        divisor.count,
        has_weights_by_label,
    ))
}

/// `tensor` without a graph, for use on `device`, which may have autodiff.
fn on_device(tensor: Tensor<1>, device: &Device) -> Tensor<1> {
    match device.is_autodiff() && !tensor.device().is_autodiff() {
        true => Tensor::from_inner(tensor),
        false => tensor,
    }
}

/// The sum of the cross entropies of rows, divided by `divisor`: `[1]`, f32. That of a row is
/// `-weight * log(softmax(logits)[label])`.
///
/// * `logits` - `[r, k]`; on GPUs in any float dtype, which the gradient has, too.
/// * `labels` - the class of each row, `[r]`, below `k`.
/// * `weights` - factor of each row, `[r]`, f32.
///
/// Differentiable in `logits`. Sums are f32; on GPUs, two calls are bit-equal.
///
/// # Panics
///
/// If the shapes do not match, or the divisor's index is beyond its counts.
pub fn cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    weights: Tensor<1>,
    divisor: Divisor,
) -> Tensor<1> {
    let [rows, classes] = logits.dims();
    assert_eq!(
        (labels.dims(), weights.dims()),
        ([rows], [rows]),
        "cross_entropy: a label and a weight per row"
    );
    let (weights, divisor, device) = (to_f32(weights), divisor.checked(), logits.device());
    if !has_selection_kernels(&device) || rows * classes == 0 {
        let chosen = log_softmax(to_f32(logits), 1).gather(1, labels.reshape([rows, 1]));
        return (chosen.reshape([rows]).neg() * weights).sum() / divisor.value(&device);
    }
    Tensor::from_dispatch(<Dispatch as ClassLossOps>::cross_entropy(
        logits.reshape([rows, 1, classes]).into_dispatch(),
        labels.cast(IntDType::I32).into_dispatch(),
        weights.into_dispatch(),
        on_device(divisor.counts, &device).into_dispatch(),
        divisor.count,
    ))
}

fn by_operations(
    predicted: Tensor<3>,
    labels: Option<Tensor<1, Int>>,
    targets: Tensor<2>,
    weights: RowWeights,
    loss: ElementLoss,
) -> Tensor<1> {
    let [rows, classes, outputs] = predicted.dims();
    let weights = match (weights, &labels) {
        (RowWeights::Given(weights), _) => to_f32(weights),
        (RowWeights::OfObjects, Some(labels)) => labels.clone().greater_elem(0).float(),
        (RowWeights::OfObjects, None) => unreachable!("weights by label have labels"),
    };
    let chosen = match labels {
        Some(labels) if classes > 1 => {
            let labels = labels.reshape([rows, 1, 1]).expand([rows, 1, outputs]);
            predicted.gather(1, labels)
        }
        _ => predicted,
    };
    let chosen = chosen.reshape([rows, outputs]);
    let losses = match loss {
        ElementLoss::BinaryCrossEntropy => bce_with_logits(chosen, targets),
        ElementLoss::SmoothL1 { beta } => smooth_l1(chosen - targets, beta),
    };
    (losses * weights.reshape([rows, 1])).sum()
}

/// The loss as a backend operation; use [`class_loss`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait ClassLossOps: Backend {
    /// See [`class_loss`]; labels are i32.
    #[allow(clippy::too_many_arguments)]
    #[fusion(default)]
    fn class_loss(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        loss: ElementLoss,
        count: Count,
        has_weights_by_label: bool,
    ) -> FloatTensor<Self> {
        let (sums, _) = Self::class_losses(
            predicted,
            labels,
            targets,
            weights,
            loss,
            has_weights_by_label,
        );
        Self::divided_sum(sums, counts, count)
    }

    /// Partial sums of the losses, and their derivatives `[r, e]` by the outputs of the true classes.
    #[fusion(meta = |_predicted, _labels, targets, _weights, _loss, _has_weights_by_label| (sums(targets), targets.clone()))]
    fn class_losses(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        loss: ElementLoss,
        has_weights_by_label: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The sum of `sums` divided by a count, `[1]`, added in a fixed order.
    #[fusion(dtype = sums, shape = Shape::new([1]))]
    fn divided_sum(
        sums: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        count: Count,
    ) -> FloatTensor<Self>;

    /// The gradient of `predicted [r, k, e]`, in its dtype and layout: `grad [1]` times the derivatives, divided by a
    /// count, and 0 for all classes but the true ones.
    #[fusion(dtype = predicted, shape = predicted)]
    fn class_loss_gradient(
        derivatives: FloatTensor<Self>,
        labels: IntTensor<Self>,
        grad: FloatTensor<Self>,
        predicted: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        count: Count,
    ) -> FloatTensor<Self>;

    /// See [`cross_entropy`]; logits are `[r, 1, k]`, as of one class with `k` outputs, and labels i32.
    #[fusion(default)]
    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        count: Count,
    ) -> FloatTensor<Self> {
        let (losses, _) = Self::cross_entropies(logits, labels, weights);
        Self::divided_sum(losses, counts, count)
    }

    /// The losses of the rows `[r]`, and their derivatives `[r, k]`.
    #[fusion(meta = |logits, _labels, weights| (weights.clone(), derivatives(logits)))]
    fn cross_entropies(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Elements per cube, and so per partial sum.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
const CHUNK: u32 = 1024;

/// The derivatives `[r, k]` of logits `[r, 1, k]`, f32.
#[cfg(feature = "fusion")]
fn derivatives(logits: &TensorSpec) -> TensorSpec {
    let shape = Shape::new([logits.shape[0], logits.shape[2]]);
    TensorSpec::new(shape, burn::tensor::DType::F32)
}

#[cfg(feature = "fusion")]
fn sums(targets: &TensorSpec) -> TensorSpec {
    let count = targets.shape.num_elements().div_ceil(CHUNK as usize);
    TensorSpec::new(Shape::new([count]), burn::tensor::DType::F32)
}
