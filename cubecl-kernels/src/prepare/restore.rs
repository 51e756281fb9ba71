//! Launches that restore the gradients of parameters from those of their prepared versions.

use super::kernel::{RestorePartLaunch, restore_step};
use crate::launch::{UNITS, buffer, dense, empty};
use crate::multi_tensor::{CHUNK, Launch, launches};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::ops::{permute_nchw_to_nhwc, reshape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Flat gradients in f32; `places` has the place of the scale of each.
pub fn restored(
    gradients: Vec<CubeTensor>,
    scales: Vec<CubeTensor>,
    places: &[Option<usize>],
) -> Vec<CubeTensor> {
    let gradients = gradients.into_iter().zip(places).map(|(gradient, place)| {
        let scale = place.map(|place| scales[place].clone());
        Gradient::new(gradient, scale)
    });
    let gradients: Vec<_> = gradients.collect();
    let results: Vec<_> = gradients.iter().map(Gradient::result).collect();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for is_scaled in [false, true] {
            let work = gradients.iter().zip(&results);
            let work: Vec<_> = work
                .filter(|(gradient, _)| !gradient.needs_no_kernel())
                .filter(|(gradient, _)| gradient.kind() == (dtype, is_scaled))
                .collect();
            launch(&work, dtype, is_scaled);
        }
    }
    results
}

/// Channels and cells per output of a parameter: `[o, c, k, k]` has `c` and `k * k`, other shapes stay in order.
pub(super) fn layout(shape: &Shape) -> [usize; 2] {
    match shape.num_dims() {
        4 => [shape[1], shape[2] * shape[3]],
        _ => [1, 1],
    }
}

/// A gradient with its layout.
struct Gradient {
    /// Dense in its own order of dimensions.
    dense: CubeTensor,
    scale: Option<CubeTensor>,
    /// Channels and cells per output; one each if the gradient is in order.
    layout: [usize; 2],
    outputs: usize,
}

impl Gradient {
    fn new(gradient: CubeTensor, scale: Option<CubeTensor>) -> Self {
        assert!(
            matches!(gradient.dtype, DType::F32 | DType::F16 | DType::BF16),
            "restore_gradients: gradients must be f32, f16 or bf16, not {:?}",
            gradient.dtype
        );
        let shape = gradient.meta.shape();
        let outputs = shape.first().copied().unwrap_or(1).max(1);
        if shape.num_dims() == 4 && !gradient.is_contiguous() {
            let layout = layout(shape);
            let last = permute_nchw_to_nhwc(gradient.clone());
            if last.is_contiguous() {
                return Self {
                    dense: last,
                    scale,
                    layout,
                    outputs,
                };
            }
        }
        Self {
            dense: dense(gradient),
            scale,
            layout: [1, 1],
            outputs,
        }
    }

    fn length(&self) -> usize {
        self.dense.meta.num_elements()
    }

    fn kind(&self) -> (DType, bool) {
        (self.dense.dtype, self.scale.is_some())
    }

    /// Whether it is f32, unscaled and in order already.
    fn needs_no_kernel(&self) -> bool {
        self.kind() == (DType::F32, false) && self.layout == [1, 1]
    }

    /// The gradient itself if it needs no kernel, otherwise a buffer for the result.
    fn result(&self) -> CubeTensor {
        match self.needs_no_kernel() {
            true => reshape(self.dense.clone(), Shape::new([self.length()])),
            false => empty(&self.dense, [self.length()], DType::F32),
        }
    }
}

/// Restores gradients of one kind.
fn launch(work: &[(&Gradient, &CubeTensor)], dtype: DType, is_scaled: bool) {
    let Some((_, on)) = work.first() else {
        return;
    };
    // Every binding needs its own buffer, even one that is not read.
    let no_scale = empty(on, [1], DType::F32);
    let lengths: Vec<_> = work.iter().map(|(gradient, _)| gradient.length()).collect();
    for Launch { tensors, cubes } in launches(on, &lengths, CHUNK, 3) {
        let parts = tensors.into_iter().map(|(index, range)| {
            let (gradient, result) = work[index];
            let [channels, cells] = gradient.layout.map(|size| size as u32);
            RestorePartLaunch {
                gradient: buffer(&gradient.dense),
                scale: buffer(gradient.scale.as_ref().unwrap_or(&no_scale)),
                result: buffer(result),
                range,
                channels,
                cells,
                per_output: (gradient.length() / gradient.outputs) as u32,
            }
        });
        // SAFETY: the buffers are dense; the results have the lengths of the gradients, and scales that are read have
        // one element per output.
        unsafe {
            restore_step::launch_unchecked(
                &on.client,
                CubeCount::Static(cubes, 1, 1),
                CubeDim::new_1d(UNITS),
                parts.collect(),
                is_scaled,
                dtype_to_storage_type(dtype),
            );
        }
    }
}
