//! Decoding of box deltas to boxes clipped to their image, on the device.

mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub use cpu::decode_box;

use crate::dtype::to_f32;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, IntDType, Tensor};

/// Parameters of box decoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxDecoding {
    /// Multipliers of the encoded `dx, dy, dw, dh`; decoding divides by them.
    pub weights: [f32; 4],
    /// Upper bound of `dw` and `dh` after this division.
    pub max_log_scale: f32,
    /// Minimum side of a box in pixels; smaller boxes are dropped.
    pub min_size: f32,
}

/// Box decoding as a backend operation; use [`decode_boxes`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait DecodeOps: Backend {
    /// Boxes `[n, slots, 4]` and scores `[n, slots]`; inputs as in [`decode_boxes`].
    ///
    /// * `has_logits` - whether `scores` are logits, of which the output has the sigmoids.
    #[fusion(meta = output_spec)]
    fn decode_boxes(
        deltas: FloatTensor<Self>,
        references: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        indices: IntTensor<Self>,
        sizes: FloatTensor<Self>,
        params: BoxDecoding,
        has_logits: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;

#[cfg(feature = "fusion")]
fn output_spec(
    _deltas: &TensorSpec,
    _references: &TensorSpec,
    scores: &TensorSpec,
    _indices: &TensorSpec,
    _sizes: &TensorSpec,
    _params: &BoxDecoding,
    _has_logits: &bool,
) -> (TensorSpec, TensorSpec) {
    let shape = [scores.shape[0], scores.shape[1], 4];
    (TensorSpec::new(shape.into(), scores.dtype), scores.clone())
}

impl<B: Backend + DecodeOps, C: CheckpointStrategy> DecodeOps for Autodiff<B, C> {
    fn decode_boxes(
        deltas: FloatTensor<Self>,
        references: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        indices: IntTensor<Self>,
        sizes: FloatTensor<Self>,
        params: BoxDecoding,
        has_logits: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [deltas, references, scores, sizes] =
            [deltas, references, scores, sizes].map(|tensor| tensor.into_primitive());
        let (boxes, scores) = B::decode_boxes(
            deltas, references, scores, indices, sizes, params, has_logits,
        );
        (Self::from_inner(boxes), Self::from_inner(scores))
    }
}

/// The decoded boxes and scores of the candidates `indices`, clipped to their image.
///
/// * `deltas` - `[n, d, 4]`, see [`decode_box`].
/// * `references` - `[n, r, 4]`, or `[1, r, 4]` for all images, in pixels: deltas `i` belong to reference `i % r`, so
///   `d` can have one block of deltas per class.
/// * `scores`, `indices` - `[n, slots]`: score of each slot and index of its deltas; -1 marks an empty slot.
/// * `sizes` - `[n, 2]`: height and width of each image in pixels, without padding.
///
/// Returns boxes `[n, slots, 4]` in pixels and scores `[n, slots]`. An output slot is empty (zeros with score minus
/// infinity) if the input slot is empty, if its score or a corner is not finite, or if a side of the clipped box is
/// shorter than `params.min_size`. Not differentiable.
///
/// # Panics
///
/// If the shapes do not match.
pub fn decode_boxes(
    deltas: Tensor<3>,
    references: Tensor<3>,
    scores: Tensor<2>,
    indices: Tensor<2, Int>,
    sizes: Tensor<2>,
    params: &BoxDecoding,
) -> (Tensor<3>, Tensor<2>) {
    decode(deltas, references, (scores, false), indices, sizes, params)
}

/// As [`decode_boxes`], with `logits [n, slots]` in place of scores. The returned scores are their sigmoids: 0 for
/// minus infinity and 1 for plus infinity. A slot whose logit is NaN is empty.
///
/// # Panics
///
/// If the shapes do not match.
pub fn decode_proposals(
    deltas: Tensor<3>,
    references: Tensor<3>,
    logits: Tensor<2>,
    indices: Tensor<2, Int>,
    sizes: Tensor<2>,
    params: &BoxDecoding,
) -> (Tensor<3>, Tensor<2>) {
    decode(deltas, references, (logits, true), indices, sizes, params)
}

/// Decodes with `scores`, and a flag whether they are logits.
fn decode(
    deltas: Tensor<3>,
    references: Tensor<3>,
    (scores, has_logits): (Tensor<2>, bool),
    indices: Tensor<2, Int>,
    sizes: Tensor<2>,
    params: &BoxDecoding,
) -> (Tensor<3>, Tensor<2>) {
    let [n, slots] = scores.dims();
    assert_eq!(
        indices.dims(),
        [n, slots],
        "indices and scores must have the same shape"
    );
    assert_eq!(sizes.dims(), [n, 2], "sizes must have one row per image");
    assert!(deltas.dims()[0] == n && [1, n].contains(&references.dims()[0]));
    let (boxes, scores) = <Dispatch as DecodeOps>::decode_boxes(
        to_f32(deltas).into_dispatch(),
        to_f32(references).into_dispatch(),
        to_f32(scores).into_dispatch(),
        indices.cast(IntDType::I32).into_dispatch(),
        to_f32(sizes).into_dispatch(),
        *params,
        has_logits,
    );
    (Tensor::from_dispatch(boxes), Tensor::from_dispatch(scores))
}
