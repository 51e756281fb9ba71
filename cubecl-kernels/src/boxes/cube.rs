//! The kernels on boxes as operations on backends, and their launches.

use super::kernel::{self, DeltaWeightsLaunch, SampleSizesLaunch};
use crate::launch::{buffer, dense, elementwise, empty};
use crate::sampling::Choice;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, Int, IntDType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

/// The operations on backends; use [`fn@super::encode_boxes`], [`fn@super::roi_targets`], [`fn@super::gather_boxes`]
/// and [`fn@super::roi_rows`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait BoxOps: Backend {
    /// Deltas `[n, k, 4]`; integers are i32.
    #[fusion(dtype = gt, shape = Shape::new([matched[0], matched[1], 4]))]
    fn encode_boxes(
        gt: FloatTensor<Self>,
        references: FloatTensor<Self>,
        candidates: IntTensor<Self>,
        matched: IntTensor<Self>,
        weights: [f32; 4],
    ) -> FloatTensor<Self>;

    /// Boxes and deltas `[n, k, 4]`, and classes `[n, k]`; integers are i32.
    #[fusion(meta = |_proposals, gt, labels, _candidates, matched, _weights| {
        target_specs(gt, labels, matched)
    })]
    fn roi_targets(
        proposals: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        labels: IntTensor<Self>,
        candidates: IntTensor<Self>,
        matched: IntTensor<Self>,
        weights: [f32; 4],
    ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>);

    /// Boxes `[n, k, 4]`; `index` is i32.
    #[fusion(dtype = boxes, shape = Shape::new([index[0], index[1], 4]))]
    fn gather_boxes(boxes: FloatTensor<Self>, index: IntTensor<Self>) -> FloatTensor<Self>;

    /// Rows `[n * slots, 6]`.
    #[fusion(dtype = boxes, shape = Shape::new([boxes[0] * boxes[1], 6]))]
    fn roi_rows(boxes: FloatTensor<Self>, min_sides: Vec<f32>) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
fn target_specs(
    gt: &TensorSpec,
    labels: &TensorSpec,
    matched: &TensorSpec,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    let [n, k] = [matched.shape[0], matched.shape[1]];
    let corners = TensorSpec::new(Shape::new([n, k, 4]), gt.dtype);
    let classes = TensorSpec::new(Shape::new([n, k]), labels.dtype);
    (corners.clone(), corners, classes)
}

/// See [`fn@super::encode_boxes`].
pub fn encode(
    gt: Tensor<3>,
    references: Tensor<3>,
    choice: &Choice,
    weights: [f32; 4],
) -> Tensor<3> {
    let [candidates, matched] = indices(choice);
    Tensor::from_dispatch(<Dispatch as BoxOps>::encode_boxes(
        gt.into_dispatch(),
        references.into_dispatch(),
        candidates.into_dispatch(),
        matched.into_dispatch(),
        weights,
    ))
}

/// Boxes and deltas, and classes; see [`fn@super::roi_targets`].
pub fn targets(
    proposals: Tensor<3>,
    gt: Tensor<3>,
    labels: Tensor<2, Int>,
    choice: &Choice,
    weights: [f32; 4],
) -> ([Tensor<3>; 2], Tensor<2, Int>) {
    let [candidates, matched] = indices(choice);
    let (boxes, deltas, labels) = <Dispatch as BoxOps>::roi_targets(
        proposals.into_dispatch(),
        gt.into_dispatch(),
        labels.cast(IntDType::I32).into_dispatch(),
        candidates.into_dispatch(),
        matched.into_dispatch(),
        weights,
    );
    (
        [boxes, deltas].map(Tensor::from_dispatch),
        Tensor::from_dispatch(labels),
    )
}

fn indices(choice: &Choice) -> [Tensor<2, Int>; 2] {
    let indices = [choice.candidates.clone(), choice.matched.clone()];
    indices.map(|indices| indices.cast(IntDType::I32))
}

/// See [`fn@super::gather_boxes`].
pub fn gather(boxes: Tensor<3>, index: Tensor<2, Int>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as BoxOps>::gather_boxes(
        boxes.into_dispatch(),
        index.cast(IntDType::I32).into_dispatch(),
    ))
}

/// See [`fn@super::roi_rows`].
pub fn rows(boxes: Tensor<3>, min_sides: &[f32]) -> Tensor<2> {
    let boxes = boxes.into_dispatch();
    Tensor::from_dispatch(<Dispatch as BoxOps>::roi_rows(boxes, min_sides.to_vec()))
}

fn delta_weights([x, y, width, height]: [f32; 4]) -> DeltaWeightsLaunch {
    DeltaWeightsLaunch {
        x,
        y,
        width,
        height,
    }
}

/// Sizes of `gt [n, t, 4]`, `references [n or 1, b, 4]` and `matched [n, k]`.
fn sizes(gt: &CubeTensor, references: &CubeTensor, matched: &CubeTensor) -> SampleSizesLaunch {
    let [_, slots, _] = gt.meta.shape().dims();
    let [reference_sets, total, _] = references.meta.shape().dims();
    let [n, samples] = matched.meta.shape().dims();
    SampleSizesLaunch {
        samples: samples as u32,
        references: total as u32,
        references_stride: if reference_sets == 1 { 0 } else { total as u32 },
        slots: slots as u32,
        units: (n * samples) as u32,
    }
}

impl BoxOps for CubeBackend {
    fn encode_boxes(
        gt: FloatTensor<Self>,
        references: FloatTensor<Self>,
        candidates: IntTensor<Self>,
        matched: IntTensor<Self>,
        weights: [f32; 4],
    ) -> FloatTensor<Self> {
        let [gt, references, candidates, matched] =
            [gt, references, candidates, matched].map(dense);
        let [n, k] = matched.meta.shape().dims();
        let deltas = empty(&gt, [n, k, 4], DType::F32);
        let (cubes, cube) = elementwise(&deltas, n * k);
        // SAFETY: the buffers are dense and of the shapes in the sizes, the indices are in them, and units beyond the
        // samples stop.
        unsafe {
            kernel::encode::launch_unchecked(
                &deltas.client,
                cubes,
                cube,
                buffer(&gt),
                buffer(&references),
                buffer(&candidates),
                buffer(&matched),
                buffer(&deltas),
                delta_weights(weights),
                sizes(&gt, &references, &matched),
            );
        }
        deltas
    }

    fn roi_targets(
        proposals: FloatTensor<Self>,
        gt: FloatTensor<Self>,
        labels: IntTensor<Self>,
        candidates: IntTensor<Self>,
        matched: IntTensor<Self>,
        weights: [f32; 4],
    ) -> (FloatTensor<Self>, FloatTensor<Self>, IntTensor<Self>) {
        let [proposals, gt] = [proposals, gt].map(dense);
        let [labels, candidates, matched] = [labels, candidates, matched].map(dense);
        let [n, k] = matched.meta.shape().dims();
        let corners = |dtype| empty(&gt, [n, k, 4], dtype);
        let [boxes, deltas] = [DType::F32; 2].map(corners);
        let classes = empty(&gt, [n, k], DType::I32);
        let (cubes, cube) = elementwise(&boxes, n * k);
        // SAFETY: as in `encode_boxes`.
        unsafe {
            kernel::gather_targets::launch_unchecked(
                &boxes.client,
                cubes,
                cube,
                buffer(&proposals),
                buffer(&gt),
                buffer(&labels),
                buffer(&candidates),
                buffer(&matched),
                buffer(&boxes),
                buffer(&deltas),
                buffer(&classes),
                delta_weights(weights),
                sizes(&gt, &proposals, &matched),
            );
        }
        (boxes, deltas, classes)
    }

    fn gather_boxes(boxes: FloatTensor<Self>, index: IntTensor<Self>) -> FloatTensor<Self> {
        let [boxes, index] = [boxes, index].map(dense);
        let [_, total, _] = boxes.meta.shape().dims();
        let [n, k] = index.meta.shape().dims();
        let gathered = empty(&boxes, [n, k, 4], DType::F32);
        let (cubes, cube) = elementwise(&gathered, n * k);
        // SAFETY: the buffers are dense and of these shapes, the indices are in them, and units beyond them stop.
        unsafe {
            kernel::gather::launch_unchecked(
                &gathered.client,
                cubes,
                cube,
                buffer(&boxes),
                buffer(&index),
                buffer(&gathered),
                total as u32,
                k as u32,
                (n * k) as u32,
            );
        }
        gathered
    }

    fn roi_rows(boxes: FloatTensor<Self>, min_sides: Vec<f32>) -> FloatTensor<Self> {
        let boxes = dense(boxes);
        let [n, slots, _] = boxes.meta.shape().dims();
        let units = n * slots;
        let rows = empty(&boxes, [units, 6], DType::F32);
        let (cubes, cube) = elementwise(&rows, units);
        // SAFETY: the buffers are dense, with four or six numbers per unit, and units beyond them stop.
        unsafe {
            kernel::rows::launch_unchecked(
                &rows.client,
                cubes,
                cube,
                buffer(&boxes),
                buffer(&rows),
                min_sides.into_iter().collect(),
                slots as u32,
                units as u32,
            );
        }
        rows
    }
}
