//! Launches of the loss on GPUs.

use super::kernel::{self, CountLaunch, SizesLaunch};
use super::{CHUNK, ClassLossOps, Count, ElementLoss};
use crate::launch::{UNITS, buffer, dense, elementwise, empty};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Predictions `[r, k, e]`, dense in the order `[r, k, e]` or `[r, e, k]`; a dense copy if they are neither.
fn readable(predicted: CubeTensor) -> CubeTensor {
    match permute(predicted.clone(), &[0, 2, 1]).is_contiguous() {
        true => predicted,
        false => dense(predicted),
    }
}

impl Count {
    fn launch(self) -> CountLaunch {
        CountLaunch {
            index: self.index as u32,
            min: self.min as f32,
            factor: self.factor as f32,
        }
    }
}

impl ClassLossOps for CubeBackend {
    fn class_losses(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        loss: ElementLoss,
        has_weights_by_label: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let predicted = readable(predicted);
        let [labels, targets, weights] = [labels, targets, weights].map(dense);
        let [_, classes, outputs] = predicted.meta.shape().dims();
        let strides = [0, 1, 2].map(|axis| predicted.meta.strides()[axis] as u32);
        let elements = targets.meta.num_elements();
        let cubes = elements.div_ceil(CHUNK as usize);
        let sums = empty(&targets, [cubes], DType::F32);
        let derivatives = empty(&targets, targets.meta.shape().dims::<2>(), DType::F32);
        let (is_smooth_l1, beta) = match loss {
            ElementLoss::BinaryCrossEntropy => (false, 1.0),
            ElementLoss::SmoothL1 { beta } => (true, beta),
        };
        let dtype = dtype_to_storage_type(predicted.dtype);
        // In memory it is dense in the order of its strides, which the kernel gets.
        let order: [usize; 3] = if strides[1] < strides[2] {
            [0, 2, 1]
        } else {
            [0, 1, 2]
        };
        let predicted = permute(predicted, &order);
        // SAFETY: the buffers are dense and of the shapes in the sizes; labels are limited to the number of classes.
        unsafe {
            kernel::class_losses::launch_unchecked(
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
                    row_stride: strides[0],
                    class_stride: strides[1],
                    output_stride: strides[2],
                    beta: beta as f32,
                },
                is_smooth_l1,
                has_weights_by_label,
                dtype,
            );
        }
        (sums, derivatives)
    }

    fn divided_sum(
        sums: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        count: Count,
    ) -> FloatTensor<Self> {
        let [sums, counts] = [sums, counts].map(dense);
        let (output, terms) = (empty(&sums, [1], DType::F32), sums.meta.num_elements());
        // SAFETY: the kernel reads that many terms, and the count is one of the counts.
        unsafe {
            kernel::divide_sum::launch_unchecked(
                &output.client,
                CubeCount::Static(1, 1, 1),
                CubeDim::new_1d(UNITS),
                buffer(&sums),
                buffer(&counts),
                buffer(&output),
                terms as u32,
                count.launch(),
            );
        }
        output
    }

    fn class_loss_gradient(
        derivatives: FloatTensor<Self>,
        labels: IntTensor<Self>,
        grad: FloatTensor<Self>,
        predicted: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        count: Count,
    ) -> FloatTensor<Self> {
        let [derivatives, labels, grad, counts] = [derivatives, labels, grad, counts].map(dense);
        let [rows, classes, outputs] = predicted.meta.shape().dims();
        let strides = predicted.meta.strides();
        let is_class_last = strides[1] < strides[2];
        let shape = match is_class_last {
            true => [rows, outputs, classes],
            false => [rows, classes, outputs],
        };
        let gradient = empty(&derivatives, shape, predicted.dtype);
        let units = gradient.meta.num_elements();
        let (cubes, cube) = elementwise(&gradient, units);
        // SAFETY: the buffers are dense and of these shapes, and units beyond the gradient stop.
        unsafe {
            kernel::spread_derivatives::launch_unchecked(
                &gradient.client,
                cubes,
                cube,
                buffer(&derivatives),
                buffer(&labels),
                buffer(&grad),
                buffer(&counts),
                buffer(&gradient),
                classes,
                outputs,
                units,
                count.launch(),
                is_class_last,
                dtype_to_storage_type(predicted.dtype),
            );
        }
        match is_class_last {
            true => permute(gradient, &[0, 2, 1]),
            false => gradient,
        }
    }

    fn cross_entropies(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [logits, labels, weights] = [logits, labels, weights].map(dense);
        let [rows, _, classes] = logits.meta.shape().dims();
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
                dtype_to_storage_type(logits.dtype),
            );
        }
        (losses, derivatives)
    }
}
