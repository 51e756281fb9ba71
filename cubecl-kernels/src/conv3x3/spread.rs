//! Copies of images in larger grids, with zeros between and around the pixels. On such grids, the gradient of the input of a
//! strided convolution is that of a convolution with stride 1, and the gradient of the weights is a matrix product. Matrix
//! units can compute both.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]
#![allow(
    clippy::manual_is_multiple_of,
    reason = "kernels have no `is_multiple_of`"
)]

use crate::launch::{buffer, dense, elementwise, empty, width};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The grid of each image.
#[derive(Clone, Copy, CubeType, CubeLaunch)]
pub struct Grid {
    pub rows: usize,
    pub columns: usize,
    /// Row and column of the first pixel.
    pub origin: usize,
    /// Rows and columns from one pixel to the next.
    pub stride: usize,
}

/// `output [total, c]` from `pixels [images, rows, columns, c]`; `vectors` is the number of vectors per pixel.
#[cube(launch_unchecked, address_type = "dynamic")]
fn spread_pixels<E: Float, N: Size>(
    pixels: &[Vector<E, N>],
    output: &mut [Vector<E, N>],
    images: usize,
    rows: usize,
    columns: usize,
    grid: &Grid,
    vectors: usize,
    units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let pixel = ABSOLUTE_POS / vectors;
    let line = pixel / grid.columns;
    let image = line / grid.rows;
    // Positions before the origin wrap to large values.
    let x = pixel % grid.columns - grid.origin;
    let y = line % grid.rows - grid.origin;
    let (row, column) = (y / grid.stride, x / grid.stride);
    let is_pixel = x % grid.stride == 0 && y % grid.stride == 0;
    let mut value = Vector::<f32, N>::new(0.0f32);
    if is_pixel && image < images && row < rows && column < columns {
        let from = (image * rows + row) * columns + column;
        value += Vector::cast_from(pixels[from * vectors + ABSOLUTE_POS % vectors]);
    }
    output[ABSOLUTE_POS] = Vector::cast_from(value);
}

/// `pixels [n, h, w, c]` in grids, one image after the other, and zeros up to `total` pixels: `[total, c]`.
pub fn spread(pixels: CubeTensor, grid: Grid, total: usize) -> CubeTensor {
    let pixels = dense(pixels);
    let [n, rows, columns, c] = pixels.meta.shape().dims();
    let output = empty(&pixels, [total, c], pixels.dtype);
    let width = width(c);
    let units = output.meta.num_elements() / width;
    let (cubes, cube) = elementwise(&output, units);
    let sizes = GridLaunch {
        rows: grid.rows,
        columns: grid.columns,
        origin: grid.origin,
        stride: grid.stride,
    };
    // SAFETY: both buffers are dense, the pixels read are below `n`, `rows` and `columns`, and units beyond the output
    // stop.
    unsafe {
        spread_pixels::launch_unchecked(
            &output.client,
            cubes,
            cube,
            output.required_address_type(),
            width,
            buffer(&pixels),
            buffer(&output),
            n,
            rows,
            columns,
            sizes,
            c / width,
            units,
            dtype_to_storage_type(output.dtype),
        );
    }
    output
}
