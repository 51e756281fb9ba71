//! Kernels of the top-down sum: channels-last, in vectors.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]

use super::UpsampleOps;
use crate::launch::{buffer, channels_last, elementwise, empty, own, width};
use burn::backend::{cubecl::dtype_to_storage_type, tensor::FloatTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Adds the cells of `top [n, rows, columns, c]` to `lateral [n, h, w, c]` in place; `vectors` is the number of
/// vectors per cell.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_cells<E: Float, N: Size>(
    lateral: &mut [Vector<E, N>],
    top: &[Vector<E, N>],
    h: usize,
    w: usize,
    rows: usize,
    columns: usize,
    vectors: usize,
    units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let cell = ABSOLUTE_POS / vectors;
    let (x, row) = (cell % w, cell / w);
    let (y, image) = (row % h, row / h);
    let above = (image * rows + y / 2) * columns + x / 2;
    let sum = Vector::<f32, N>::cast_from(lateral[ABSOLUTE_POS])
        + Vector::<f32, N>::cast_from(top[above * vectors + ABSOLUTE_POS % vectors]);
    lateral[ABSOLUTE_POS] = Vector::cast_from(sum);
}

/// Sums the cells of `grad [n, h, w, c]` below each cell of `gradient [n, rows, columns, c]`; if `is_added`, adds them
/// to it.
#[cube(launch_unchecked, address_type = "dynamic")]
fn sum_cells<E: Float, N: Size>(
    grad: &[Vector<E, N>],
    gradient: &mut [Vector<E, N>],
    h: usize,
    w: usize,
    rows: usize,
    columns: usize,
    vectors: usize,
    units: usize,
    #[comptime] is_added: bool,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let cell = ABSOLUTE_POS / vectors;
    let (x, row) = (cell % columns * 2, cell / columns);
    let (y, image) = (row % rows * 2, row / rows);
    let first = ((image * h + y) * w + x) * vectors + ABSOLUTE_POS % vectors;
    let mut sum = Vector::<f32, N>::cast_from(grad[first]);
    if x + 1 < w {
        sum += Vector::cast_from(grad[first + vectors]);
    }
    if y + 1 < h {
        let below = first + w * vectors;
        sum += Vector::cast_from(grad[below]);
        if x + 1 < w {
            sum += Vector::cast_from(grad[below + vectors]);
        }
    }
    if comptime!(is_added) {
        sum += Vector::cast_from(gradient[ABSOLUTE_POS]);
    }
    gradient[ABSOLUTE_POS] = Vector::cast_from(sum);
}

impl UpsampleOps for CubeBackend {
    fn add_upsampled(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let (lateral, top) = (own(channels_last(lateral)), channels_last(top));
        let [_, h, w, c] = lateral.meta.shape().dims::<4>();
        let width = width(c);
        let units = lateral.meta.num_elements() / width;
        if units > 0 {
            let (cubes, cube) = elementwise(&lateral, units);
            // SAFETY: both buffers are dense, the top has half of the cells, and units beyond the output stop.
            unsafe {
                add_cells::launch_unchecked(
                    &lateral.client,
                    cubes,
                    cube,
                    lateral.required_address_type(),
                    width,
                    buffer(&lateral),
                    buffer(&top),
                    h,
                    w,
                    h.div_ceil(2),
                    w.div_ceil(2),
                    c / width,
                    units,
                    dtype_to_storage_type(lateral.dtype),
                );
            }
        }
        permute_nhwc_to_nchw(lateral)
    }

    fn upsampled_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let [n, c, h, w] = grad.meta.shape().dims::<4>();
        let gradient = empty(&grad, [n, h.div_ceil(2), w.div_ceil(2), c], grad.dtype);
        sum_gradient(gradient, grad, false)
    }

    fn add_upsampled_gradient(
        gradient: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        sum_gradient(own(channels_last(gradient)), grad, true)
    }
}

/// Writes the gradient of the top to `gradient [n, rows, columns, c]` or, if `is_added`, adds it: `[n, c, rows,
/// columns]`.
fn sum_gradient(gradient: CubeTensor, grad: CubeTensor, is_added: bool) -> CubeTensor {
    let grad = channels_last(grad);
    let [_, h, w, c] = grad.meta.shape().dims::<4>();
    let width = width(c);
    let units = gradient.meta.num_elements() / width;
    if units > 0 {
        let (cubes, cube) = elementwise(&gradient, units);
        // SAFETY: both buffers are dense, cells beyond `grad` are left out, and units beyond the output stop.
        unsafe {
            sum_cells::launch_unchecked(
                &grad.client,
                cubes,
                cube,
                grad.required_address_type(),
                width,
                buffer(&grad),
                buffer(&gradient),
                h,
                w,
                h.div_ceil(2),
                w.div_ceil(2),
                c / width,
                units,
                is_added,
                dtype_to_storage_type(grad.dtype),
            );
        }
    }
    permute_nhwc_to_nchw(gradient)
}
