//! The first slots of each image on GPUs: one launch, with one unit per slot.

use crate::launch::{buffer, dense, elementwise, empty};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, Int, IntDType, Tensor};
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

/// The slots as a backend operation; use [`fn@super::object_slots`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait ObjectSlotOps: Backend {
    /// Boxes, labels, matches and objects; integers are i32.
    #[fusion(meta = |boxes, _labels, _matched, count| specs(boxes, *count))]
    fn object_slots(
        boxes: FloatTensor<Self>,
        labels: IntTensor<Self>,
        matched: IntTensor<Self>,
        count: usize,
    ) -> (
        FloatTensor<Self>,
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
    );
}

#[cfg(feature = "fusion")]
fn specs(boxes: &TensorSpec, count: usize) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    let n = boxes.shape[0];
    let spec = |dtype| TensorSpec::new(Shape::new([n, count]), dtype);
    let corners = TensorSpec::new(Shape::new([n, count, 4]), DType::F32);
    (
        corners,
        spec(DType::I32),
        spec(DType::I32),
        spec(DType::F32),
    )
}

/// Boxes, labels and matches, and objects; see [`fn@super::object_slots`].
pub fn slots(
    boxes: Tensor<3>,
    labels: Tensor<2, Int>,
    matched: Tensor<2, Int>,
    count: usize,
) -> (Tensor<3>, [Tensor<2, Int>; 2], Tensor<2>) {
    let (boxes, labels, matched, is_object) = <Dispatch as ObjectSlotOps>::object_slots(
        boxes.into_dispatch(),
        labels.cast(IntDType::I32).into_dispatch(),
        matched.cast(IntDType::I32).into_dispatch(),
        count,
    );
    (
        Tensor::from_dispatch(boxes),
        [labels, matched].map(Tensor::from_dispatch),
        Tensor::from_dispatch(is_object),
    )
}

impl ObjectSlotOps for CubeBackend {
    fn object_slots(
        boxes: FloatTensor<Self>,
        labels: IntTensor<Self>,
        matched: IntTensor<Self>,
        count: usize,
    ) -> (
        FloatTensor<Self>,
        IntTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
    ) {
        let [boxes, labels, matched] = [boxes, labels, matched].map(dense);
        let [n, k] = matched.meta.shape().dims();
        let first_boxes = empty(&boxes, [n, count, 4], DType::F32);
        let slots = |dtype| empty(&boxes, [n, count], dtype);
        let [first_labels, first_matched] = [DType::I32; 2].map(slots);
        let is_object = slots(DType::F32);
        let (cubes, cube) = elementwise(&boxes, n * count);
        // SAFETY: the buffers are dense and of these shapes, `count` is at most `k`, and units beyond the slots stop.
        unsafe {
            copy_slots::launch_unchecked(
                &boxes.client,
                cubes,
                cube,
                buffer(&boxes),
                buffer(&labels),
                buffer(&matched),
                buffer(&first_boxes),
                buffer(&first_labels),
                buffer(&first_matched),
                buffer(&is_object),
                k as u32,
                count as u32,
                (n * count) as u32,
            );
        }
        (first_boxes, first_labels, first_matched, is_object)
    }
}

/// `boxes [n, k, 4]`, `labels`, `matched [n, k]` -> the first `count` of each image, and whether each is an object.
#[cube(launch_unchecked)]
fn copy_slots(
    boxes: &[f32],
    labels: &[i32],
    matched: &[i32],
    first_boxes: &mut [f32],
    first_labels: &mut [i32],
    first_matched: &mut [i32],
    is_object: &mut [f32],
    k: u32,
    count: u32,
    units: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let to = unit as usize;
    let from = (unit / count * k + unit % count) as usize;
    let object = matched[from];
    first_labels[to] = labels[from];
    first_matched[to] = object;
    is_object[to] = select(object >= 0, 1.0f32, 0.0f32);
    #[unroll]
    for i in 0..4usize {
        first_boxes[to * 4 + i] = boxes[from * 4 + i];
    }
}
