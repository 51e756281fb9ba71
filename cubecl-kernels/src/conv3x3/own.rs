//! Launches of the kernels of `conv3x3`: output, gradient of the input and gradient of the weights.

use super::layer::{Layer, forward_axis, gather_axis};
use super::packing::packed;
use super::tiling::{GradientSizesLaunch, GradientTiling, Tiling};
use super::weight_gradient::{accumulate, reduce};
use crate::launch::{buffer, channels_last, dense, empty, width, zeros};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::ops::{permute, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// `x [n, c, h, w]`, `weight [o, c, 3, 3]`, `bias [o]` -> `[n, o, h', w']`.
pub fn forward(
    x: CubeTensor,
    weight: CubeTensor,
    bias: Option<CubeTensor>,
    stride: usize,
    relu: bool,
) -> CubeTensor {
    let [n, c, h, w] = x.meta.shape().dims();
    let [o, ..] = weight.meta.shape().dims::<4>();
    let [rows, cols] = [h, w].map(|size| forward_axis(size, stride));
    let shape = [n, rows.output as usize, cols.output as usize, o];
    let output = empty(&x, shape, x.dtype);
    let tiling = Tiling::new(&x.client, o);
    let layer = Layer {
        bias: bias.map_or_else(|| zeros(&x, [o], x.dtype), dense),
        input: channels_last(x),
        weight: packed(weight, false, &tiling),
        channels: [c, o],
        relu,
        tiling,
    };
    layer.launch(&output, rows, cols);
    permute_nhwc_to_nchw(output)
}

/// The gradient of an input `[n, c, h, w]`.
pub fn input_gradient(
    [n, c, h, w]: [usize; 4],
    weight: CubeTensor,
    grad: CubeTensor,
    stride: usize,
) -> CubeTensor {
    let [_, o, grad_rows, grad_cols] = grad.meta.shape().dims();
    let gradient = empty(&grad, [n, h, w, c], grad.dtype);
    let tiling = Tiling::new(&grad.client, c);
    let layer = Layer {
        weight: packed(permute(weight, &[1, 0, 2, 3]), stride == 1, &tiling),
        bias: zeros(&grad, [c], grad.dtype),
        input: channels_last(grad),
        channels: [o, c],
        relu: false,
        tiling,
    };
    if stride == 1 {
        layer.launch(&gradient, forward_axis(h, 1), forward_axis(w, 1));
    } else {
        // Inputs of the same parity are reached by the same taps.
        for (row, col) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (rows, cols) = (
                gather_axis(h, grad_rows, row),
                gather_axis(w, grad_cols, col),
            );
            layer.launch(&gradient, rows, cols);
        }
    }
    permute_nhwc_to_nchw(gradient)
}

/// The gradient of weights `[o, c, 3, 3]`.
pub fn weight_gradient(x: CubeTensor, grad: CubeTensor, stride: usize) -> CubeTensor {
    let [n, c, h, w] = x.meta.shape().dims();
    let [_, o, rows, cols] = grad.meta.shape().dims();
    let (client, dtype) = (grad.client.clone(), grad.dtype);
    let tiling = GradientTiling::new(&client, o);
    let tiles = [
        o.div_ceil(4 * tiling.outputs()),
        (9 * c.div_ceil(4)).div_ceil(tiling.inputs()),
    ];
    let pixels = n * rows * cols;
    let padded = 9 * c.next_multiple_of(4) * o.next_multiple_of(4);
    let pixels_per_cube = pixels_per_cube(pixels, tiles[0] * tiles[1], padded, tiling.depth);
    let splits = pixels.div_ceil(pixels_per_cube);
    let partials = empty(&grad, [splits, padded], DType::F32);
    let step = tiling.depth;
    let sizes = GradientSizesLaunch {
        input_rows: h as u32,
        input_cols: w as u32,
        inputs: c as u32,
        output_rows: rows as u32,
        output_cols: cols as u32,
        outputs: o as u32,
        stride: stride as u32,
        pixels: pixels as u32,
        pixels_per_cube: pixels_per_cube as u32,
        step_images: (step / (rows * cols)) as u32,
        step_rows: (step / cols % rows) as u32,
        step_cols: (step % cols) as u32,
    };
    // SAFETY: every access is checked against the sizes given here.
    unsafe {
        accumulate::launch_unchecked(
            &client,
            CubeCount::Static(tiles[0] as u32, tiles[1] as u32, splits as u32),
            CubeDim::new_2d(tiling.units_x as u32, tiling.units_y as u32),
            width(c),
            width(o),
            buffer(&channels_last(x)),
            buffer(&channels_last(grad)),
            buffer(&partials),
            sizes,
            tiling,
            dtype_to_storage_type(dtype),
        );
    }
    reduce_partials(partials, splits, [c, o], dtype)
}

/// `partials [splits, 9, c, o]` in f32, `c` and `o` padded to multiples of four, added in a fixed order: `[o, c, 3, 3]`.
pub fn reduce_partials(
    partials: CubeTensor,
    splits: usize,
    [c, o]: [usize; 2],
    dtype: DType,
) -> CubeTensor {
    let gradient = empty(&partials, [o, c, 3, 3], dtype);
    let lines = 9 * c.next_multiple_of(4) / 4;
    // SAFETY: the partial sums are those of all splits, and units beyond the channels stop.
    unsafe {
        reduce::launch_unchecked(
            &gradient.client,
            CubeCount::Static(o.div_ceil(32) as u32, lines as u32, 1),
            CubeDim::new_2d(32, 4),
            buffer(&partials),
            buffer(&gradient),
            c as u32,
            o as u32,
            splits as u32,
            dtype_to_storage_type(dtype),
        );
    }
    gradient
}

/// Number of pixels that one cube sums: enough cubes for a GPU, but so many pixels that adding the
/// partial sums is cheap in comparison. Depends on sizes only, so that sums are repeatable.
fn pixels_per_cube(pixels: usize, tiles: usize, padded: usize, depth: usize) -> usize {
    const CUBES: usize = 256;
    const PARTIALS: usize = 16 << 20;
    const MIN_PIXELS: usize = 256;
    let splits = CUBES.div_ceil(tiles).min(PARTIALS.div_ceil(padded));
    pixels
        .div_ceil(splits)
        .max(MIN_PIXELS)
        .next_multiple_of(depth)
}
