//! Launches that write the predictions for every anchor.

use super::kernel::{LevelLaunch, flatten_levels};
use super::layout::OUTPUTS;
use crate::launch::{UNITS, buffer, channels_last, empty};
use crate::multi_tensor::{Launch, launches};
use crate::tensor_list::TensorList;
use burn::backend::cubecl::dtype_to_storage_type;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

/// The operation on backends; use [`flatten_rpn_outputs`](super::flatten_rpn_outputs).
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait RpnOutputOps: Backend {
    /// Logits `[n, anchors]` and deltas `[n, anchors, 4]`, dense and f32; levels are of one dtype.
    #[fusion(meta = |levels| specs(levels))]
    fn flatten_rpn_outputs(
        #[extension_type] levels: TensorList<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "fusion")]
fn specs(levels: &[TensorSpec]) -> (TensorSpec, TensorSpec) {
    let n = levels[0].shape[0];
    let counts = levels.iter().map(|level| anchors_per_image(&level.shape));
    let total = counts.sum::<usize>();
    (
        TensorSpec::new(Shape::new([n, total]), DType::F32),
        TensorSpec::new(Shape::new([n, total, 4]), DType::F32),
    )
}

/// Number of anchors per image of a level `[n, 5a, h, w]`.
fn anchors_per_image(level: &Shape) -> usize {
    level[1] / OUTPUTS * level[2] * level[3]
}

/// See [`super::flatten_rpn_outputs`].
pub fn flatten(levels: Vec<Tensor<4>>) -> (Tensor<2>, Tensor<3>) {
    let levels = TensorList::of(levels);
    let (objectness, deltas) = <Dispatch as RpnOutputOps>::flatten_rpn_outputs(levels);
    (
        Tensor::from_dispatch(objectness),
        Tensor::from_dispatch(deltas),
    )
}

impl RpnOutputOps for CubeBackend {
    fn flatten_rpn_outputs(levels: TensorList<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let counts = levels.0.iter();
        let counts: Vec<_> = counts
            .map(|level| anchors_per_image(level.meta.shape()))
            .collect();
        let levels: Vec<_> = levels.0.into_iter().map(channels_last).collect();
        let on = &levels[0];
        let [n, _, _, outputs] = on.meta.shape().dims();
        let total = counts.iter().sum::<usize>();
        let objectness = empty(on, [n, total], DType::F32);
        let deltas = empty(on, [n, total, 4], DType::F32);
        let lengths: Vec<_> = counts.iter().map(|count| n * count).collect();
        // A launch has three buffers beside those of its levels: both results and CubeCL's own. If the device cannot
        // bind the buffers of all levels, several launches divide them.
        for Launch { tensors, cubes } in launches(on, &lengths, UNITS, 1) {
            let parts = tensors.into_iter().map(|(index, range)| LevelLaunch {
                outputs: buffer(&levels[index]),
                range,
                anchors: counts[index] as u32,
                first: counts[..index].iter().sum::<usize>() as u32,
            });
            // SAFETY: the buffers are dense, have five outputs or results per anchor, and each cube keeps to its
            // range of anchors.
            unsafe {
                flatten_levels::launch_unchecked(
                    &on.client,
                    CubeCount::Static(cubes, 1, 1),
                    CubeDim::new_1d(UNITS),
                    parts.collect(),
                    buffer(&objectness),
                    buffer(&deltas),
                    (outputs / OUTPUTS) as u32,
                    total as u32,
                    dtype_to_storage_type(on.dtype),
                );
            }
        }
        (objectness, deltas)
    }
}
