//! Predictions for every anchor from the outputs of a region proposal network. On GPUs one launch writes them; with
//! Burn's operations the levels are concatenated, and both results are sliced and copied.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
mod layout;
#[cfg(all(test, feature = "flex"))]
mod tests;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::capability::has_selection_kernels;
use crate::dtype::to_f32;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::DType;
use burn::tensor::Tensor;
use layout::OUTPUTS;

/// Logits `[n, anchors]` and box deltas `[n, anchors, 4]` of an RPN, f32. Anchors are in the order of level, row,
/// column and anchor of the cell.
///
/// * `levels` - `[n, 5a, h, w]` per level, of one float dtype: per cell the logits of its `a` anchors, then their
///   deltas `dx, dy, dw, dh`. GPUs read channels-last levels without a copy.
///
/// Differentiable on devices with autodiff.
///
/// # Panics
///
/// If there are no levels, or the shapes do not match.
pub fn flatten_rpn_outputs(levels: Vec<Tensor<4>>) -> (Tensor<2>, Tensor<3>) {
    let shapes: Vec<_> = levels.iter().map(|level| level.dims()).collect();
    let first = shapes
        .first()
        .map_or([0, 0], |&[n, outputs, ..]| [n, outputs]);
    assert!(
        first[1] > 0
            && first[1].is_multiple_of(OUTPUTS)
            && shapes.iter().all(|shape| shape[..2] == first),
        "flatten_rpn_outputs: one or more levels [n, 5a, h, w] with the same n and a, not {shapes:?}"
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if has_kernel(&levels) {
        return cube::flatten(levels);
    }
    flatten_by_operations(levels)
}

/// Whether there is a kernel for the levels: they are on a GPU, without a graph, and of one dtype that it supports.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn has_kernel(levels: &[Tensor<4>]) -> bool {
    levels.iter().all(|level| {
        let (device, dtype) = (level.device(), level.dtype());
        has_selection_kernels(&device)
            && !device.is_autodiff()
            && matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
            && dtype == levels[0].dtype()
    })
}

fn flatten_by_operations(levels: Vec<Tensor<4>>) -> (Tensor<2>, Tensor<3>) {
    let by_cell = levels.into_iter().map(|level| {
        let [n, outputs, h, w] = level.dims();
        level.permute([0, 2, 3, 1]).reshape([n, h * w, outputs])
    });
    let by_cell = to_f32(Tensor::cat(by_cell.collect(), 1));
    let [n, cells, outputs] = by_cell.dims();
    let per_cell = outputs / OUTPUTS;
    let anchors = cells * per_cell;
    let logits = by_cell.clone().narrow(2, 0, per_cell);
    let deltas = by_cell.narrow(2, per_cell, outputs - per_cell);
    // The four deltas of an anchor are contiguous.
    (
        logits.reshape([n, anchors]),
        deltas.reshape([n, anchors, 4]),
    )
}
