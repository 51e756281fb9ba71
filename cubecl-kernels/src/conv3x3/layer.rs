//! Launches of the forward kernel.

use super::kernel::{Axis, AxisLaunch, ChannelsLaunch, convolve};
use super::tiling::Tiling;
use crate::launch::{buffer, width};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Inputs of a convolution: `input [n, h, w, c]`, `weight` packed, `bias [o]`.
pub struct Layer {
    pub input: CubeTensor,
    pub weight: CubeTensor,
    pub bias: CubeTensor,
    /// Channels of the input and of the output.
    pub channels: [usize; 2],
    pub relu: bool,
    /// Tiling that the weights are packed for.
    pub tiling: Tiling,
}

impl Layer {
    /// Computes the positions of `output [n, h', w', o]` that the axes select.
    pub fn launch(&self, output: &CubeTensor, rows: Axis, cols: Axis) {
        let [n, ..] = self.input.meta.shape().dims::<4>();
        let pixels = n * rows.count as usize * cols.count as usize;
        let [_, padded, pitch] = self.weight.meta.shape().dims();
        let [input, out] = self.channels;
        let tiling = self.tiling;
        let tiles = pixels.div_ceil(tiling.pixels());
        let Some(cube_count) = cube_count(tiles, pitch / (4 * tiling.outputs())) else {
            return;
        };
        // SAFETY: every read is of packed weights, or checked against these sizes.
        unsafe {
            convolve::launch_unchecked(
                &output.client,
                cube_count,
                CubeDim::new_2d(tiling.units_x as u32, tiling.units_y as u32),
                width(input),
                width(out),
                buffer(&self.input),
                buffer(&self.weight),
                buffer(&self.bias),
                buffer(output),
                axis_launch(rows),
                axis_launch(cols),
                ChannelsLaunch {
                    input: input as u32,
                    output: out as u32,
                    steps: (padded / (4 * tiling.depth)) as u32,
                    pitch: (pitch / 4) as u32,
                },
                pixels as u32,
                tiling,
                self.relu,
                dtype_to_storage_type(output.dtype),
            )
        }
    }
}

/// Output `p` reads inputs `p * stride - 1` to `p * stride + 1`.
pub fn forward_axis(input: usize, stride: usize) -> Axis {
    let output = input.div_ceil(stride) as u32;
    Axis {
        count: output,
        input: input as u32,
        output,
        input_stride: stride as i32,
        output_stride: 1,
        phase: 0,
        taps: 3,
        tap: 0,
        tap_step: 1,
        shift: -1,
        shift_step: 1,
    }
}

/// The gradient of inputs `2 p + phase` at stride 2: even inputs are read by the middle tap of output `p` only, odd
/// inputs by the first tap of `p + 1` and the last tap of `p`.
pub fn gather_axis(size: usize, grad: usize, phase: u32) -> Axis {
    Axis {
        count: (size as u32 + 1 - phase) / 2,
        input: grad as u32,
        output: size as u32,
        input_stride: 1,
        output_stride: 2,
        phase,
        taps: 1 + phase,
        tap: 1 - phase,
        tap_step: 2,
        shift: phase as i32,
        shift_step: -1,
    }
}

fn axis_launch(axis: Axis) -> AxisLaunch {
    AxisLaunch {
        count: axis.count,
        input: axis.input,
        output: axis.output,
        input_stride: axis.input_stride,
        output_stride: axis.output_stride,
        phase: axis.phase,
        taps: axis.taps,
        tap: axis.tap,
        tap_step: axis.tap_step,
        shift: axis.shift,
        shift_step: axis.shift_step,
    }
}

/// Count of `tiles` by `y` cubes, with `tiles` split into two dimensions, because WebGPU allows 65535 per dimension.
/// Consecutive cubes share their weights in the cache.
fn cube_count(tiles: usize, y: usize) -> Option<CubeCount> {
    if tiles == 0 {
        return None;
    }
    let z = tiles.div_ceil(65535);
    Some(CubeCount::Static(
        tiles.div_ceil(z) as u32,
        y as u32,
        z as u32,
    ))
}
