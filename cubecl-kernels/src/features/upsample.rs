//! The top-down sum of a feature pyramid on GPUs. By Burn's operations it would write the enlarged top, and add it value by
//! value instead of in vectors.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]

use crate::epilogue::cube::{own, pixels, width};
use crate::launch::{buffer, elementwise, empty};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::{
    Autodiff, Backend, Dispatch,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use cubecl::prelude::*;

/// The sum as a backend operation; use [`super::upsample_add`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait UpsampleOps: Backend {
    /// [`super::upsample_add`].
    #[fusion(dtype = lateral, shape = lateral)]
    fn add_upsampled(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient `[n, c, ceil(h / 2), ceil(w / 2)]` of the top from `grad [n, c, h, w]`: the sums of 2x2 cells, in f32.
    #[fusion(dtype = grad, shape = halved(grad))]
    fn upsampled_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

pub fn add_upsampled(lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
    let (lateral, top) = (lateral.into_dispatch(), top.into_dispatch());
    Tensor::from_dispatch(<Dispatch as UpsampleOps>::add_upsampled(lateral, top))
}

#[cfg_attr(not(feature = "fusion"), allow(dead_code))]
fn halved(grad: &Shape) -> Shape {
    Shape::new([grad[0], grad[1], grad[2].div_ceil(2), grad[3].div_ceil(2)])
}

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

/// Sums the cells of `grad [n, h, w, c]` below each cell of `gradient [n, rows, columns, c]`.
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
    gradient[ABSOLUTE_POS] = Vector::cast_from(sum);
}

impl UpsampleOps for CubeBackend {
    fn add_upsampled(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let (lateral, top) = (own(pixels(lateral)), pixels(top));
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
        let grad = pixels(grad);
        let [n, h, w, c] = grad.meta.shape().dims::<4>();
        let gradient = empty(&grad, [n, h.div_ceil(2), w.div_ceil(2), c], grad.dtype);
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
                    dtype_to_storage_type(grad.dtype),
                );
            }
        }
        permute_nhwc_to_nchw(gradient)
    }
}

#[derive(Debug)]
struct UpsampleBackward;

impl<B: Backend + UpsampleOps> Backward<B, 2> for UpsampleBackward {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [lateral, top] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = top {
            grads.register::<B>(node.id, B::upsampled_gradient(grad.clone()));
        }
        if let Some(node) = lateral {
            grads.register::<B>(node.id, grad);
        }
    }
}

impl<B: Backend + UpsampleOps, C: CheckpointStrategy> UpsampleOps for Autodiff<B, C> {
    fn add_upsampled(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [lateral.node(), top.node()];
        let sum = B::add_upsampled(lateral.into_primitive(), top.into_primitive());
        UpsampleBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateless(sum)
    }

    fn upsampled_gradient(_grad: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("upsample_add has no second derivative")
    }
}
