//! Launches of the loss on GPUs.

use super::kernel::{self, SizesLaunch, class_losses, spread_derivatives};
use super::{CHUNK, ClassLossOps, ElementLoss};
use crate::launch::{UNITS, buffer, dense, elementwise, empty};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

impl ClassLossOps for CubeBackend {
    fn class_losses(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        loss: ElementLoss,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [predicted, labels, targets, weights] =
            [predicted, labels, targets, weights].map(dense);
        let [_, classes, outputs] = predicted.meta.shape().dims();
        let elements = targets.meta.num_elements();
        let cubes = elements.div_ceil(CHUNK as usize);
        let sums = empty(&targets, [cubes], DType::F32);
        let derivatives = empty(&targets, targets.meta.shape().dims::<2>(), DType::F32);
        let (is_smooth_l1, beta) = match loss {
            ElementLoss::BinaryCrossEntropy => (false, 1.0),
            ElementLoss::SmoothL1 { beta } => (true, beta),
        };
        // SAFETY: the buffers are dense and of the shapes in the sizes; labels are limited to the number of classes.
        unsafe {
            class_losses::launch_unchecked(
                &targets.client,
                CubeCount::Static(cubes as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                buffer(&predicted),
                buffer(&labels),
                buffer(&targets),
                buffer(&weights),
                buffer(&sums),
                buffer(&derivatives),
                SizesLaunch {
                    elements: elements as u32,
                    classes: classes as u32,
                    outputs: outputs as u32,
                    beta: beta as f32,
                },
                is_smooth_l1,
            );
        }
        (sums, derivatives)
    }

    fn class_loss_gradient(
        derivatives: FloatTensor<Self>,
        labels: IntTensor<Self>,
        grad: FloatTensor<Self>,
        classes: usize,
    ) -> FloatTensor<Self> {
        let [derivatives, labels, grad] = [derivatives, labels, grad].map(dense);
        let [rows, outputs] = derivatives.meta.shape().dims();
        let gradient = empty(&derivatives, [rows, classes, outputs], DType::F32);
        let units = gradient.meta.num_elements();
        let (cubes, cube) = elementwise(&gradient, units);
        // SAFETY: the buffers are dense and of these shapes, and units beyond the gradient stop.
        unsafe {
            spread_derivatives::launch_unchecked(
                &gradient.client,
                cubes,
                cube,
                buffer(&derivatives),
                buffer(&labels),
                buffer(&grad),
                buffer(&gradient),
                classes,
                outputs,
                units,
            );
        }
        gradient
    }

    fn cross_entropies(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [logits, labels, weights] = [logits, labels, weights].map(dense);
        let [rows, classes] = logits.meta.shape().dims();
        let losses = empty(&logits, [rows], DType::F32);
        let derivatives = empty(&logits, [rows, classes], DType::F32);
        // SAFETY: the buffers are dense and of these shapes; labels are limited to the number of classes.
        unsafe {
            kernel::cross_entropies::launch_unchecked(
                &logits.client,
                CubeCount::Static(rows.div_ceil(UNITS as usize) as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                buffer(&logits),
                buffer(&labels),
                buffer(&weights),
                buffer(&losses),
                buffer(&derivatives),
                rows as u32,
                classes as u32,
            );
        }
        (losses, derivatives)
    }
}
