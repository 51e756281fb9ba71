//! Launches of the kernels, and when they are chosen over Burn's.

use super::layer::{Layer, forward_axis, gather_axis, width};
use super::packing::packed;
use super::tiling::{GradientTiling, Tiling};
use super::weight_gradient::{GradientSizesLaunch, accumulate, reduce};
use super::{Conv3x3Ops, burn_conv3x3, options};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, zeros_client};
use burn_cubecl::ops::{permute, permute_nchw_to_nhwc, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

impl Conv3x3Ops for CubeBackend {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        if !is_chosen(&x, &weight) {
            return burn_conv3x3::<Self>(x, weight, bias, stride, relu);
        }
        let [n, c, h, w] = x.meta.shape().dims();
        let [o, ..] = weight.meta.shape().dims::<4>();
        let [rows, cols] = [h, w].map(|size| forward_axis(size, stride));
        let output = empty_like(&x, [n, rows.output as usize, cols.output as usize, o]);
        let tiling = Tiling::new(&x.client, o);
        let layer = Layer {
            input: channels_last(x),
            weight: packed(weight, false, &tiling),
            bias: into_contiguous(bias),
            channels: [c, o],
            relu,
            tiling,
        };
        layer.launch(&output, rows, cols);
        permute_nhwc_to_nchw(output)
    }

    fn conv3x3_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        if !is_chosen(&x, &weight) {
            return Self::conv2d_x_backward(x, weight, grad, options(stride));
        }
        let [n, c, h, w] = x.meta.shape().dims();
        let [_, o, grad_rows, grad_cols] = grad.meta.shape().dims();
        let gradient = empty_like(&grad, [n, h, w, c]);
        let (client, device) = (grad.client.clone(), grad.device.clone());
        let tiling = Tiling::new(&client, c);
        let layer = Layer {
            weight: packed(permute(weight, &[1, 0, 2, 3]), stride == 1, &tiling),
            bias: zeros_client(client, device, Shape::new([c]), grad.dtype),
            input: channels_last(grad),
            channels: [o, c],
            relu: false,
            tiling,
        };
        if stride == 1 {
            layer.launch(&gradient, forward_axis(h, 1), forward_axis(w, 1));
        } else {
            // Inputs of one parity are reached by the same taps.
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

    fn conv3x3_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        if !is_chosen(&x, &weight) {
            return Self::conv2d_weight_backward(x, weight, grad, options(stride));
        }
        weight_gradient(x, grad, stride)
    }
}

/// Whether these kernels run, or Burn's.
fn is_chosen(x: &CubeTensor, weight: &CubeTensor) -> bool {
    let [n, c, h, w] = x.meta.shape().dims();
    let [o, ..] = weight.meta.shape().dims::<4>();
    let indexed = [n * c * h * w, n * o * h * w, 9 * (c + 64) * (o + 64)];
    matches!(x.dtype, DType::F32 | DType::F16)
        && indexed.iter().all(|&len| 0 < len && len < 1 << 31)
        && !has_matrix_units(&x.client, x.dtype)
}

/// Whether Burn can convolve `dtype` on the device's matrix units; f32 is rounded to TF32 for them.
fn has_matrix_units(client: &Client, dtype: DType) -> bool {
    let element = match dtype {
        DType::F32 => ElemType::Float(FloatKind::TF32),
        other => dtype_to_storage_type(other),
    };
    let matmul = &client.properties().features.matmul;
    let mut instructions = matmul.cmma.iter().chain(&matmul.mma);
    instructions.any(|instruction| instruction.a_type == element)
}

fn weight_gradient(x: CubeTensor, grad: CubeTensor, stride: usize) -> CubeTensor {
    let [n, c, h, w] = x.meta.shape().dims();
    let [_, o, rows, cols] = grad.meta.shape().dims();
    let (client, device, dtype) = (grad.client.clone(), grad.device.clone(), grad.dtype);
    let tiling = GradientTiling::new(&client, o);
    let tiles = [
        o.div_ceil(4 * tiling.outputs()),
        (9 * c.div_ceil(4)).div_ceil(tiling.inputs()),
    ];
    let pixels = n * rows * cols;
    let padded = 9 * c.next_multiple_of(4) * o.next_multiple_of(4);
    let share = share(pixels, tiles[0] * tiles[1], padded, tiling.depth);
    let splits = pixels.div_ceil(share);
    let shape = Shape::new([splits, padded]);
    let partials = empty_device_contiguous_dtype(client.clone(), device.clone(), shape, DType::F32);
    let shape = Shape::new([o, c, 3, 3]);
    let gradient = empty_device_contiguous_dtype(client.clone(), device, shape, dtype);
    let step = tiling.depth;
    let sizes = GradientSizesLaunch::new(
        h as u32,
        w as u32,
        c as u32,
        rows as u32,
        cols as u32,
        o as u32,
        stride as u32,
        pixels as u32,
        share as u32,
        (step / (rows * cols)) as u32,
        (step / cols % rows) as u32,
        (step % cols) as u32,
    );
    // SAFETY: every access is checked against the sizes given here.
    unsafe {
        accumulate::launch_unchecked(
            &client,
            CubeCount::Static(tiles[0] as u32, tiles[1] as u32, splits as u32),
            CubeDim::new_2d(tiling.units_x as u32, tiling.units_y as u32),
            width(c),
            width(o),
            channels_last(x).into_buffer_arg(),
            channels_last(grad).into_buffer_arg(),
            partials.clone().into_buffer_arg(),
            sizes,
            tiling,
            dtype_to_storage_type(dtype),
        );
        reduce::launch_unchecked(
            &client,
            CubeCount::Static(
                o.div_ceil(32) as u32,
                (9 * c.next_multiple_of(4) / 4) as u32,
                1,
            ),
            CubeDim::new_2d(32, 4),
            partials.into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            c as u32,
            o as u32,
            splits as u32,
            dtype_to_storage_type(dtype),
        );
    }
    gradient
}

/// Pixels that one cube sums: as many as leave a GPU enough cubes, but not so few that adding the
/// partial sums costs more than it gains. Depends on nothing but sizes, so that sums are repeatable.
fn share(pixels: usize, tiles: usize, padded: usize, depth: usize) -> usize {
    const CUBES: usize = 256;
    const PARTIALS: usize = 16 << 20;
    const LEAST: usize = 256;
    let splits = CUBES.div_ceil(tiles).min(PARTIALS.div_ceil(padded));
    pixels.div_ceil(splits).max(LEAST).next_multiple_of(depth)
}

fn channels_last(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(permute_nchw_to_nhwc(tensor))
}

fn empty_like(tensor: &CubeTensor, shape: [usize; 4]) -> CubeTensor {
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::new(shape), tensor.dtype)
}
