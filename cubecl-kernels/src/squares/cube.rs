//! Kernel of the sums of squares: one launch for many tensors.

use crate::cube_sum::cube_sum;
use crate::launch::{UNITS, buffer, empty, zeros};
use crate::multi_tensor::{CubeRange, Launch, cubes_of, dense_f32, launches, lengths};
use crate::tensor_list::TensorList;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

/// Elements per cube, and so per sum; more in tensors that have as many cubes as a launch.
const CHUNK: u32 = 64 * UNITS;

/// Sums of parts of the tensors, `[sums]`.
pub fn partial_sums_of_squares(tensors: &[Tensor<1>], factor: f64) -> Tensor<1> {
    let tensors = TensorList::of(tensors.iter().cloned());
    Tensor::from_dispatch(<Dispatch as SquareOps>::partial_sums_of_squares(
        tensors,
        factor as f32,
    ))
}

/// The sum of each tensor, `[tensors]`.
pub fn sum_each(tensors: &[Tensor<1>]) -> Tensor<1> {
    let tensors = TensorList::of(tensors.iter().cloned());
    Tensor::from_dispatch(<Dispatch as SquareOps>::sum_each(tensors))
}

/// The sums as a backend operation; use [`crate::partial_sums_of_squares`] and [`crate::sum_each`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait SquareOps: Backend {
    /// A sum of `(factor * x)^2` for each cube of each tensor, f32.
    #[fusion(meta = |tensors, _factor| partial_specs(tensors))]
    fn partial_sums_of_squares(
        #[extension_type] tensors: TensorList<Self>,
        factor: f32,
    ) -> FloatTensor<Self>;

    /// The sum of each tensor, f32.
    #[fusion(meta = |tensors| TensorSpec::new(Shape::new([tensors.len()]), DType::F32))]
    fn sum_each(#[extension_type] tensors: TensorList<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
fn partial_specs(tensors: &[TensorSpec]) -> TensorSpec {
    let lengths = tensors.iter().map(|it| it.shape.num_elements());
    TensorSpec::new(Shape::new([count(lengths)]), DType::F32)
}

/// Number of sums; one, which is 0, without elements.
fn count(lengths: impl Iterator<Item = usize>) -> usize {
    let counts = lengths.map(|length| cubes_of(length, CHUNK));
    counts.sum::<usize>().max(1)
}

impl SquareOps for CubeBackend {
    fn partial_sums_of_squares(tensors: TensorList<Self>, factor: f32) -> FloatTensor<Self> {
        let inputs = dense_f32(tensors.0);
        let lengths = lengths(&inputs);
        let on = &inputs[0];
        let launches = launches(on, &lengths, CHUNK, 1);
        if launches.is_empty() {
            return zeros(on, [1], DType::F32);
        }
        let sums = empty(on, [count(lengths.iter().copied())], DType::F32);
        let mut first = 0;
        for Launch { tensors, cubes } in launches {
            let parts = tensors.into_iter().map(|(index, range)| PartLaunch {
                values: buffer(&inputs[index]),
                range,
            });
            // SAFETY: the buffers are dense and are read within their lengths; each cube writes one sum.
            unsafe {
                add_squares::launch_unchecked(
                    &sums.client,
                    CubeCount::Static(cubes, 1, 1),
                    CubeDim::new_1d(UNITS),
                    parts.collect(),
                    buffer(&sums),
                    first,
                    factor,
                );
            }
            first += cubes;
        }
        sums
    }

    fn sum_each(tensors: TensorList<Self>) -> FloatTensor<Self> {
        let inputs = dense_f32(tensors.0);
        let sums = empty(&inputs[0], [inputs.len()], DType::F32);
        for (launch, inputs) in inputs.chunks(TENSORS_PER_LAUNCH).enumerate() {
            let parts = inputs.iter().map(|input| SummandLaunch {
                values: buffer(input),
                length: input.meta.num_elements() as u32,
            });
            // SAFETY: the buffers are dense, and are read within their lengths.
            unsafe {
                add_each::launch_unchecked(
                    &sums.client,
                    CubeCount::Static(inputs.len() as u32, 1, 1),
                    CubeDim::new_1d(UNITS),
                    parts.collect(),
                    buffer(&sums),
                    (launch * TENSORS_PER_LAUNCH) as u32,
                );
            }
        }
        sums
    }
}

/// Tensors per launch of [`add_each`]: WebGPU guarantees eight buffers, of which the sums and the sizes are two.
const TENSORS_PER_LAUNCH: usize = 6;

/// A tensor whose elements are added.
#[derive(CubeType, CubeLaunch)]
struct Summand {
    values: Box<[f32]>,
    length: u32,
}

/// Cube `i` writes the sum of tensor `i` to `first + i`.
#[cube(launch_unchecked)]
fn add_each(tensors: Sequence<Summand>, sums: &mut [f32], first: u32) {
    let mut own = 0.0f32;
    let count = comptime![tensors.len()];
    #[unroll]
    for place in 0..count {
        let tensor = tensors.index(place);
        if CUBE_POS_X == comptime![place as u32] {
            let mut i = UNIT_POS;
            while i < tensor.length {
                own += tensor.values[i as usize];
                i += UNITS;
            }
        }
    }
    let sum = cube_sum(own);
    if UNIT_POS == 0 {
        sums[(first + CUBE_POS_X) as usize] = sum;
    }
}

/// A tensor in a launch.
#[derive(CubeType, CubeLaunch)]
struct Part {
    values: Box<[f32]>,
    range: CubeRange,
}

/// Cube `i` writes the sum of its elements to `first + i`.
#[cube(launch_unchecked)]
fn add_squares(parts: Sequence<Part>, sums: &mut [f32], first: u32, factor: f32) {
    let mut own = 0.0f32;
    let count = comptime![parts.len()];
    #[unroll]
    for place in 0..count {
        let part = parts.index(place);
        if part.range.contains_this_cube() {
            let mut i = part.range.first();
            while i < part.range.length {
                let value = part.values[i as usize] * factor;
                own += value * value;
                i += part.range.step();
            }
        }
    }
    let sum = cube_sum(own);
    if UNIT_POS == 0 {
        sums[(first + CUBE_POS_X) as usize] = sum;
    }
}
