//! Kernel of the sums of squares: one launch for up to four tensors.

#![allow(
    clippy::too_many_arguments,
    reason = "the parameters of a kernel are its buffers and their sizes"
)]

use crate::launch::{UNITS, buffer, dense, empty};
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

/// Inputs per launch: WebGPU guarantees eight buffers, some of which the output and CubeCL itself take.
pub const INPUTS: usize = 4;

/// Cubes, and so sums, per input.
const PARTS: u32 = 128;

/// The sums of one to four tensors, `[PARTS * tensors.len()]`.
pub fn partials(tensors: &[Tensor<1>], factor: f64) -> Tensor<1> {
    // Fewer tensors are padded with the last one, which is not read again.
    let at = |place: usize| {
        tensors[place.min(tensors.len() - 1)]
            .clone()
            .into_dispatch()
    };
    Tensor::from_dispatch(<Dispatch as SquareOps>::partial_sums(
        at(0),
        at(1),
        at(2),
        at(3),
        tensors.len(),
        factor as f32,
    ))
}

/// The sums as a backend operation; use [`crate::sum_of_squares`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait SquareOps: Backend {
    /// `PARTS` sums of each of the first `count` tensors, f32.
    #[fusion(dtype = a, shape = parts(count))]
    fn partial_sums(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        count: usize,
        factor: f32,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
fn parts(count: &usize) -> Shape {
    Shape::new([PARTS as usize * count])
}

impl SquareOps for CubeBackend {
    fn partial_sums(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        count: usize,
        factor: f32,
    ) -> FloatTensor<Self> {
        let inputs = [a, b, c, d].map(dense);
        for input in &inputs {
            assert_eq!(
                input.dtype,
                DType::F32,
                "sum_of_squares: the tensors must be f32"
            );
        }
        let sums = empty(&inputs[0], [PARTS as usize * count], DType::F32);
        let lengths = inputs
            .each_ref()
            .map(|input| input.meta.num_elements() as u32);
        // SAFETY: the buffers are dense and are read within their lengths.
        unsafe {
            add_squares::launch_unchecked(
                &sums.client,
                CubeCount::Static(PARTS, count as u32, 1),
                CubeDim::new_1d(UNITS),
                buffer(&inputs[0]),
                buffer(&inputs[1]),
                buffer(&inputs[2]),
                buffer(&inputs[3]),
                buffer(&sums),
                lengths[0],
                lengths[1],
                lengths[2],
                lengths[3],
                factor,
            );
        }
        sums
    }
}

/// Sum of the squares of the elements of `values` that this unit reads, each multiplied by `factor`.
#[cube]
fn squares(values: &[f32], length: u32, factor: f32) -> f32 {
    let mut sum = 0.0f32;
    let mut i = CUBE_POS_X * UNITS + UNIT_POS;
    while i < length {
        let value = values[i as usize] * factor;
        sum += value * value;
        i += PARTS * UNITS;
    }
    sum
}

/// Cube `(part, tensor)` writes one sum.
#[cube(launch_unchecked)]
fn add_squares(
    a: &[f32],
    b: &[f32],
    c: &[f32],
    d: &[f32],
    sums: &mut [f32],
    length_a: u32,
    length_b: u32,
    length_c: u32,
    length_d: u32,
    factor: f32,
) {
    let mut own = 0.0f32;
    if CUBE_POS_Y == 0 {
        own += squares(a, length_a, factor);
    } else if CUBE_POS_Y == 1 {
        own += squares(b, length_b, factor);
    } else if CUBE_POS_Y == 2 {
        own += squares(c, length_c, factor);
    } else {
        own += squares(d, length_d, factor);
    }
    let mut shared = Shared::<[f32]>::new_slice(UNITS as usize);
    shared[UNIT_POS as usize] = own;
    sync_cube();
    let mut half = (UNITS / 2).runtime();
    while half > 0 {
        if UNIT_POS < half {
            let other = shared[(UNIT_POS + half) as usize];
            shared[UNIT_POS as usize] += other;
        }
        sync_cube();
        half /= 2;
    }
    if UNIT_POS == 0 {
        sums[(CUBE_POS_Y * PARTS + CUBE_POS_X) as usize] = shared[0];
    }
}
