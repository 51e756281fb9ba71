//! Launches of the kernels on boxes.

use super::kernel::{self, DeltaWeightsLaunch};
use crate::launch::{buffer, dense, elementwise, empty};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, Int, IntDType, Tensor};
use burn_cubecl::CubeBackend;

/// The operations on backends; use [`fn@super::encode_boxes`] and [`fn@super::roi_rows`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait BoxOps: Backend {
    /// `[n, k, 4]`; `matched` is i32.
    #[fusion(dtype = objects, shape = objects)]
    fn encode_boxes(
        objects: FloatTensor<Self>,
        references: FloatTensor<Self>,
        matched: IntTensor<Self>,
        weights: [f32; 4],
    ) -> FloatTensor<Self>;

    /// `[n * slots, 6]`.
    #[fusion(dtype = boxes, shape = Shape::new([boxes[0] * boxes[1], 6]))]
    fn roi_rows(boxes: FloatTensor<Self>, min_sides: Vec<f32>) -> FloatTensor<Self>;
}

pub fn encode(
    objects: Tensor<3>,
    references: Tensor<3>,
    matched: Tensor<2, Int>,
    weights: [f32; 4],
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as BoxOps>::encode_boxes(
        objects.into_dispatch(),
        references.into_dispatch(),
        matched.cast(IntDType::I32).into_dispatch(),
        weights,
    ))
}

pub fn rows(boxes: Tensor<3>, min_sides: &[f32]) -> Tensor<2> {
    let boxes = boxes.into_dispatch();
    Tensor::from_dispatch(<Dispatch as BoxOps>::roi_rows(boxes, min_sides.to_vec()))
}

impl BoxOps for CubeBackend {
    fn encode_boxes(
        objects: FloatTensor<Self>,
        references: FloatTensor<Self>,
        matched: IntTensor<Self>,
        [x, y, width, height]: [f32; 4],
    ) -> FloatTensor<Self> {
        let [objects, references, matched] = [objects, references, matched].map(dense);
        let deltas = empty(&objects, objects.meta.shape().dims::<3>(), DType::F32);
        let units = matched.meta.num_elements();
        let (cubes, cube) = elementwise(&deltas, units);
        // SAFETY: the buffers are dense, with four numbers per unit or one, and units beyond them stop.
        unsafe {
            kernel::encode::launch_unchecked(
                &deltas.client,
                cubes,
                cube,
                buffer(&objects),
                buffer(&references),
                buffer(&matched),
                buffer(&deltas),
                DeltaWeightsLaunch {
                    x,
                    y,
                    width,
                    height,
                },
                units as u32,
            );
        }
        deltas
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
