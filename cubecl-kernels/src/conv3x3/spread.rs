//! Copies of images in larger grids, with zeros between and around the pixels. On such grids, the gradient of the input
//! of a strided convolution is that of a convolution with stride 1, and the gradient of the weights is a matrix
//! product. Matrix units can compute both.

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

/// Sizes of pixels `[images, rows, columns, c]`; `vectors` is the number of vectors per pixel.
#[derive(Clone, Copy, CubeType, CubeLaunch)]
pub struct PixelSizes {
    images: usize,
    rows: usize,
    columns: usize,
    vectors: usize,
}

/// Vector `unit` of the grid `[total, c]`.
#[cube]
pub fn vector_in_grid<E: Float, N: Size>(
    pixels: &[Vector<E, N>],
    sizes: &PixelSizes,
    grid: &Grid,
    unit: usize,
) -> Vector<f32, N> {
    let pixel = unit / sizes.vectors;
    let line = pixel / grid.columns;
    let image = line / grid.rows;
    // Positions before the origin wrap to large values.
    let x = pixel % grid.columns - grid.origin;
    let y = line % grid.rows - grid.origin;
    let (row, column) = (y / grid.stride, x / grid.stride);
    let is_pixel = x % grid.stride == 0 && y % grid.stride == 0;
    let mut value = Vector::<f32, N>::new(0.0f32);
    if is_pixel && image < sizes.images && row < sizes.rows && column < sizes.columns {
        let from = (image * sizes.rows + row) * sizes.columns + column;
        value += Vector::cast_from(pixels[from * sizes.vectors + unit % sizes.vectors]);
    }
    value
}

/// Writes vector `unit` of `output [total, c]` in the grid.
#[cube]
fn spread_vector<E: Float, N: Size>(
    pixels: &[Vector<E, N>],
    output: &mut [Vector<E, N>],
    sizes: &PixelSizes,
    grid: &Grid,
    unit: usize,
) {
    let value = vector_in_grid::<E, N>(pixels, sizes, grid, unit);
    output[unit] = Vector::cast_from(value);
}

/// `output` from `pixels`, see [`spread_vector`]: one unit per vector.
#[cube(launch_unchecked, address_type = "dynamic")]
fn spread_pixels<E: Float, N: Size>(
    pixels: &[Vector<E, N>],
    output: &mut [Vector<E, N>],
    sizes: &PixelSizes,
    grid: &Grid,
    units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    spread_vector::<E, N>(pixels, output, sizes, grid, ABSOLUTE_POS);
}

/// [`spread_pixels`] for two inputs: the units of the second follow those of the first.
#[cube(launch_unchecked, address_type = "dynamic")]
fn spread_two<E: Float, N: Size>(
    pixels: &[Vector<E, N>],
    output: &mut [Vector<E, N>],
    sizes: &PixelSizes,
    grid: &Grid,
    units: usize,
    other_pixels: &[Vector<E, N>],
    other_output: &mut [Vector<E, N>],
    other_sizes: &PixelSizes,
    other_grid: &Grid,
    all_units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= all_units {
        terminate!();
    }
    if ABSOLUTE_POS < units {
        spread_vector::<E, N>(pixels, output, sizes, grid, ABSOLUTE_POS);
    } else {
        spread_vector::<E, N>(
            other_pixels,
            other_output,
            other_sizes,
            other_grid,
            ABSOLUTE_POS - units,
        );
    }
}

/// Pixels `[n, h, w, c]` that are copied into grids, one image after the other, and zeros up to `total` pixels.
pub struct Spread {
    pub pixels: CubeTensor,
    pub grid: Grid,
    pub total: usize,
}

impl Spread {
    /// The dense pixels and their output `[total, c]`.
    pub fn buffers(&self) -> [CubeTensor; 2] {
        let pixels = dense(self.pixels.clone());
        let output = empty(&pixels, [self.total, self.channels()], pixels.dtype);
        [pixels, output]
    }

    pub fn channels(&self) -> usize {
        self.pixels.meta.shape()[3]
    }

    /// Sizes in vectors of `width` channels, the grid, and the number of vectors of the output.
    pub fn sizes(&self, width: usize) -> (PixelSizesLaunch, GridLaunch, usize) {
        let [images, rows, columns, c] = self.pixels.meta.shape().dims();
        let vectors = c / width;
        let pixels = PixelSizesLaunch {
            images,
            rows,
            columns,
            vectors,
        };
        let grid = GridLaunch {
            rows: self.grid.rows,
            columns: self.grid.columns,
            origin: self.grid.origin,
            stride: self.grid.stride,
        };
        (pixels, grid, self.total * vectors)
    }
}

/// The pixels in their grids: `[total, c]`.
pub fn spread(pixels: CubeTensor, grid: Grid, total: usize) -> CubeTensor {
    let one = Spread {
        pixels,
        grid,
        total,
    };
    let width = width(one.channels());
    let ([pixels, output], (sizes, grid, units)) = (one.buffers(), one.sizes(width));
    let (cubes, cube) = elementwise(&output, units);
    // SAFETY: both buffers are dense, the pixels read are below the sizes, and units beyond the output stop.
    unsafe {
        spread_pixels::launch_unchecked(
            &output.client,
            cubes,
            cube,
            output.required_address_type(),
            width,
            buffer(&pixels),
            buffer(&output),
            sizes,
            grid,
            units,
            dtype_to_storage_type(output.dtype),
        );
    }
    output
}

/// Both inputs in their grids, by one launch. They must have the same dtype.
pub fn spread_both(both: [Spread; 2]) -> [CubeTensor; 2] {
    let [first, second] = both.each_ref().map(|one| one.pixels.dtype);
    assert_eq!(first, second, "spread_both: the inputs must have one dtype");
    let width = both.iter().map(|one| width(one.channels())).min();
    let width = width.expect("there are two");
    let [first, second] = &both;
    let ([pixels, output], (sizes, grid, units)) = (first.buffers(), first.sizes(width));
    let ([other_pixels, other_output], (other_sizes, other_grid, other_units)) =
        (second.buffers(), second.sizes(width));
    let (cubes, cube) = elementwise(&output, units + other_units);
    let address = output.required_address_type();
    // SAFETY: as in `spread`, for either half of the units.
    unsafe {
        spread_two::launch_unchecked(
            &output.client,
            cubes,
            cube,
            address.max(other_output.required_address_type()),
            width,
            buffer(&pixels),
            buffer(&output),
            sizes,
            grid,
            units,
            buffer(&other_pixels),
            buffer(&other_output),
            other_sizes,
            other_grid,
            units + other_units,
            dtype_to_storage_type(output.dtype),
        );
    }
    [output, other_output]
}
