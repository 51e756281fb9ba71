//! Launches that overwrite buffers: one for many tensors of floats, one for each of integers.

use crate::launch::{UNITS, buffer, dense};
use crate::multi_tensor::{CHUNK, CubeRange, Launch, launches, lengths};
use crate::tensor_list::TensorList;
use burn::backend::tensor::IntTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The operations on backends; use [`super::overwrite`]. Results are the targets.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait OverwriteOps: Backend {
    /// Writes each source into the buffer of its target; f32.
    #[fusion(meta = |targets, _sources| targets.to_vec())]
    fn overwrite_floats(
        #[extension_type] targets: TensorList<Self>,
        #[extension_type] sources: TensorList<Self>,
    ) -> TensorList<Self>;

    /// Writes `source` into the buffer of `target`; i32.
    #[fusion(dtype = burn::tensor::DType::I32, shape = target)]
    fn overwrite_integers(target: IntTensor<Self>, source: IntTensor<Self>) -> IntTensor<Self>;
}

/// See [`super::overwrite`].
pub fn floats(pairs: Vec<(Tensor<1>, Tensor<1>)>) -> Vec<Tensor<1>> {
    if pairs.is_empty() {
        return Vec::new();
    }
    let (targets, sources): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let (targets, sources) = (TensorList::of(targets), TensorList::of(sources));
    let written = <Dispatch as OverwriteOps>::overwrite_floats(targets, sources);
    written.into_tensors().collect()
}

/// See [`super::overwrite`].
pub fn integers((target, source): (Tensor<1, Int>, Tensor<1, Int>)) -> Tensor<1, Int> {
    let (target, source) = (target.into_dispatch(), source.into_dispatch());
    Tensor::from_dispatch(<Dispatch as OverwriteOps>::overwrite_integers(
        target, source,
    ))
}

/// A copy in a launch, in words of 32 bits.
#[derive(CubeType, CubeLaunch)]
struct CopyPart {
    source: Box<[u32]>,
    target: Box<[u32]>,
    range: CubeRange,
}

/// Copies each source to its target.
#[cube(launch_unchecked)]
fn copy_step(parts: &mut Sequence<CopyPart>) {
    let count = comptime![parts.len()];
    #[unroll]
    for place in 0..count {
        let part = parts.index_mut(place);
        if part.range.contains_this_cube() {
            let mut i = part.range.first();
            while i < part.range.length {
                part.target[i as usize] = part.source[i as usize];
                i += part.range.step();
            }
        }
    }
}

/// Copies `sources` to the buffers of `targets`.
fn copy(targets: &[CubeTensor], sources: Vec<CubeTensor>, dtype: DType) {
    let sources: Vec<_> = sources.into_iter().map(dense).collect();
    for (target, source) in targets.iter().zip(&sources) {
        let lengths = [target, source].map(|tensor| tensor.meta.num_elements());
        assert_eq!(
            (lengths[0], target.dtype, source.dtype),
            (lengths[1], dtype, dtype),
            "overwrite: a source must have the length of its target, and both the dtype {dtype:?}"
        );
    }
    for Launch { tensors, cubes } in launches(&targets[0], &lengths(targets), CHUNK, 2) {
        let parts = tensors.into_iter().map(|(index, range)| CopyPartLaunch {
            source: buffer(&sources[index]),
            target: buffer(&targets[index]),
            range,
        });
        // SAFETY: the buffers are dense and of one length, within which they are read and written.
        unsafe {
            copy_step::launch_unchecked(
                &targets[0].client,
                CubeCount::Static(cubes, 1, 1),
                CubeDim::new_1d(UNITS),
                parts.collect(),
            );
        }
    }
}

impl OverwriteOps for CubeBackend {
    fn overwrite_floats(targets: TensorList<Self>, sources: TensorList<Self>) -> TensorList<Self> {
        copy(&targets.0, sources.0, DType::F32);
        targets
    }

    fn overwrite_integers(target: IntTensor<Self>, source: IntTensor<Self>) -> IntTensor<Self> {
        copy(std::slice::from_ref(&target), vec![source], DType::I32);
        target
    }
}
