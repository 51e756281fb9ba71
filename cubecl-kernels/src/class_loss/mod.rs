//! Training losses: cross entropy, and element-wise losses of the outputs of each row's class (box deltas, mask
//! logits). On GPUs each is one kernel for the loss with its derivative and one for the gradient; with Burn's
//! operations, the mask loss alone launches forty.

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
use burn::tensor::{DType, Int, IntDType, Tensor};

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

/// The sum over rows of `weight * loss`, `[1]`, for the outputs of the row's class. The outputs of other classes get no
/// gradient.
///
/// * `predicted` - `[r, k, e]`, f32: `e` outputs for each of `k` classes.
/// * `labels` - the class of each row, `[r]`, below `k`; `None` if there is one class.
/// * `targets` - `[r, e]`, f32.
/// * `weights` - factor of the losses of each row, `[r]`, f32.
///
/// Differentiable in `predicted`. On GPUs sums are added in a fixed order, so two calls are bit-equal.
///
/// # Panics
///
/// If the shapes do not match, or there are several classes without labels.
pub fn class_loss(
    predicted: Tensor<3>,
    labels: Option<Tensor<1, Int>>,
    targets: Tensor<2>,
    weights: Tensor<1>,
    loss: ElementLoss,
) -> Tensor<1> {
    let [rows, classes, outputs] = predicted.dims();
    assert_eq!(
        (targets.dims(), weights.dims()),
        ([rows, outputs], [rows]),
        "class_loss: a target per output of a class, and a weight per row"
    );
    assert!(
        classes == 1 || labels.is_some(),
        "class_loss: {classes} classes need labels"
    );
    let count = labels.as_ref().map_or(rows, |labels| labels.dims()[0]);
    assert_eq!(count, rows, "class_loss: a label per row");
    let (targets, weights) = (to_f32(targets), to_f32(weights));
    let device = predicted.device();
    if !has_selection_kernels(&device) || predicted.dtype() != DType::F32 || rows * outputs == 0 {
        return by_operations(predicted, labels, targets, weights, loss);
    }
    // With one class they are not read.
    let labels = labels.unwrap_or_else(|| Tensor::empty([1], &device.inner()));
    Tensor::from_dispatch(<Dispatch as ClassLossOps>::class_loss(
        predicted.into_dispatch(),
        labels.cast(IntDType::I32).into_dispatch(),
        targets.into_dispatch(),
        weights.into_dispatch(),
        loss,
    ))
}

/// The sum of the cross entropies of rows, `[1]`: `-weight * log(softmax(logits)[label])`.
///
/// * `logits` - `[r, k]`, f32.
/// * `labels` - the class of each row, `[r]`, below `k`.
/// * `weights` - factor of each row, `[r]`, f32.
///
/// Differentiable in `logits`. On GPUs, two calls are bit-equal.
///
/// # Panics
///
/// If the shapes do not match.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, weights: Tensor<1>) -> Tensor<1> {
    let [rows, classes] = logits.dims();
    assert_eq!(
        (labels.dims(), weights.dims()),
        ([rows], [rows]),
        "cross_entropy: a label and a weight per row"
    );
    let weights = to_f32(weights);
    if !has_selection_kernels(&logits.device())
        || logits.dtype() != DType::F32
        || rows * classes == 0
    {
        let chosen = log_softmax(logits, 1).gather(1, labels.reshape([rows, 1]));
        return (chosen.reshape([rows]).neg() * weights).sum();
    }
    Tensor::from_dispatch(<Dispatch as ClassLossOps>::cross_entropy(
        logits.into_dispatch(),
        labels.cast(IntDType::I32).into_dispatch(),
        weights.into_dispatch(),
    ))
}

fn by_operations(
    predicted: Tensor<3>,
    labels: Option<Tensor<1, Int>>,
    targets: Tensor<2>,
    weights: Tensor<1>,
    loss: ElementLoss,
) -> Tensor<1> {
    let [rows, classes, outputs] = predicted.dims();
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
    // Not `float_sum`, among whose kernels Burn tunes some that add in any order.
    #[fusion(default)]
    fn class_loss(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        loss: ElementLoss,
    ) -> FloatTensor<Self> {
        Self::float_sum_dim(
            Self::class_losses(predicted, labels, targets, weights, loss).0,
            0,
        )
    }

    /// Partial sums of the losses, and their derivatives `[r, e]` by the outputs of the true classes.
    #[fusion(meta = |_predicted, _labels, targets, _weights, _loss| (sums(targets), targets.clone()))]
    fn class_losses(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        loss: ElementLoss,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient `[r, classes, e]`: `grad [1]` times the derivatives, and 0 for all classes but the true ones.
    #[fusion(dtype = derivatives, shape = Shape::new([derivatives[0], *classes, derivatives[1]]))]
    fn class_loss_gradient(
        derivatives: FloatTensor<Self>,
        labels: IntTensor<Self>,
        grad: FloatTensor<Self>,
        classes: usize,
    ) -> FloatTensor<Self>;

    /// See [`cross_entropy`]; labels are i32.
    #[fusion(default)]
    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_sum_dim(Self::cross_entropies(logits, labels, weights).0, 0)
    }

    /// The losses of the rows `[r]`, and their derivatives `[r, k]`.
    #[fusion(meta = |logits, _labels, weights| (weights.clone(), logits.clone()))]
    fn cross_entropies(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Elements per cube, and so per partial sum.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
const CHUNK: u32 = 1024;

#[cfg(feature = "fusion")]
fn sums(targets: &TensorSpec) -> TensorSpec {
    let count = targets.shape.num_elements().div_ceil(CHUNK as usize);
    TensorSpec::new(Shape::new([count]), DType::F32)
}
