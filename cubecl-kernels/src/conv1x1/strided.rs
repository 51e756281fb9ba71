//! Adding values to every `stride`-th row and column: the gradient of the input of a strided 1x1 convolution.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]

use crate::launch::{buffer, channels_last, elementwise, own, width};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Sizes of the values; `width` is that of the sums, in pixels.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Strided {
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
    /// Vectors per pixel.
    vectors: usize,
    stride: usize,
}

/// Adds `values [n, rows, columns, c]` to every `stride`-th row and column of `sums [n, height, width, c]`; a unit per
/// vector of the values.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_to_subsample<E: Float, N: Size>(
    sums: &mut [Vector<E, N>],
    values: &[Vector<E, N>],
    sizes: &Strided,
    units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let pixel = ABSOLUTE_POS / sizes.vectors;
    let (x, row) = (pixel % sizes.columns, pixel / sizes.columns);
    let (y, image) = (row % sizes.rows, row / sizes.rows);
    let target = (image * sizes.height + y * sizes.stride) * sizes.width + x * sizes.stride;
    let place = target * sizes.vectors + ABSOLUTE_POS % sizes.vectors;
    let sum = Vector::<f32, N>::cast_from(sums[place])
        + Vector::<f32, N>::cast_from(values[ABSOLUTE_POS]);
    sums[place] = Vector::cast_from(sum);
}

/// `sum [n, c, h, w]` plus `values [n, c, ceil(h / stride), ceil(w / stride)]` at every `stride`-th row and column, in
/// place if nothing else refers to `sum`; channels-last.
pub fn add(sum: CubeTensor, values: CubeTensor, stride: usize) -> CubeTensor {
    let (sums, values) = (own(channels_last(sum)), channels_last(values));
    let [n, h, w, c] = sums.meta.shape().dims();
    let (rows, columns) = (h.div_ceil(stride), w.div_ceil(stride));
    assert_eq!(
        (values.meta.shape().dims(), values.dtype),
        ([n, rows, columns, c], sums.dtype),
        "add_to_subsample: a value for every {stride}-th row and column"
    );
    let vector = width(c);
    let units = values.meta.num_elements() / vector;
    if units > 0 {
        let (cubes, cube) = elementwise(&values, units);
        // SAFETY: both buffers are dense, the places are below the sizes, and units beyond the values stop.
        unsafe {
            add_to_subsample::launch_unchecked(
                &sums.client,
                cubes,
                cube,
                sums.required_address_type(),
                vector,
                buffer(&sums),
                buffer(&values),
                StridedLaunch {
                    rows,
                    columns,
                    height: h,
                    width: w,
                    vectors: c / vector,
                    stride,
                },
                units,
                dtype_to_storage_type(sums.dtype),
            );
        }
    }
    permute_nhwc_to_nchw(sums)
}
