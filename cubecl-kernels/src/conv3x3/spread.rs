//! The gradient of a strided output spread over the grid of the input, with zeros between: the gradient of the input is
//! then that of a convolution with stride 1, which matrix units can compute.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]

use crate::launch::{buffer, dense, elementwise, empty, width};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// `output [n, h, w, c]` from `grad [n, rows, columns, c]`; `vectors` is the number of vectors per pixel.
#[cube(launch_unchecked, address_type = "dynamic")]
fn spread_pixels<E: Float, N: Size>(
    grad: &[Vector<E, N>],
    output: &mut [Vector<E, N>],
    h: usize,
    w: usize,
    rows: usize,
    columns: usize,
    stride: usize,
    vectors: usize,
    units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let pixel = ABSOLUTE_POS / vectors;
    let (x, row) = (pixel % w, pixel / w);
    let (y, image) = (row % h, row / h);
    let mut value = Vector::<f32, N>::new(0.0f32);
    if x % stride == 0 && y % stride == 0 {
        let from = (image * rows + y / stride) * columns + x / stride;
        value += Vector::cast_from(grad[from * vectors + ABSOLUTE_POS % vectors]);
    }
    output[ABSOLUTE_POS] = Vector::cast_from(value);
}

/// `grad [n, h', w', c]`, where `h'` is `ceil(h / stride)`, at every `stride`-th pixel of `[n, h, w, c]`.
pub fn spread(grad: CubeTensor, [h, w]: [usize; 2], stride: usize) -> CubeTensor {
    let grad = dense(grad);
    let [n, rows, columns, c] = grad.meta.shape().dims();
    let output = empty(&grad, [n, h, w, c], grad.dtype);
    let width = width(c);
    let units = output.meta.num_elements() / width;
    let (cubes, cube) = elementwise(&output, units);
    // SAFETY: both buffers are dense, the pixels read are below `rows` and `columns`, and units beyond the output stop.
    unsafe {
        spread_pixels::launch_unchecked(
            &output.client,
            cubes,
            cube,
            output.required_address_type(),
            width,
            buffer(&grad),
            buffer(&output),
            h,
            w,
            rows,
            columns,
            stride,
            c / width,
            units,
            dtype_to_storage_type(output.dtype),
        );
    }
    output
}
