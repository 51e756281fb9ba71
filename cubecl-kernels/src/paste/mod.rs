//! Pasting of predicted masks into their boxes as bits, without a full-size image of probabilities per instance.

mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
mod window;

pub use cpu::{PastedMask, paste_bits, paste_mask};
pub use window::{PasteBatch, PasteWindow, expand_box};

use crate::dtype::to_f32;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, IntDType, Tensor, TensorData};
use window::ENTRY;

/// Parameters of the kernel beside its tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PasteSizes {
    /// Number of words of the result.
    pub words: usize,
    /// Number of words of the largest entry of the table.
    pub largest: usize,
    /// Pixels with a higher probability belong to the object.
    pub threshold: f32,
}

/// Pasting as a backend operation; use [`paste_masks`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait PasteOps: Backend {
    /// `masks [r, s, s]`, `table [entries, 8]` -> `[words]`.
    #[fusion(meta = output_spec)]
    fn paste_masks(
        masks: FloatTensor<Self>,
        table: IntTensor<Self>,
        sizes: PasteSizes,
    ) -> IntTensor<Self>;
}

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;

#[cfg(feature = "fusion")]
fn output_spec(_masks: &TensorSpec, _table: &TensorSpec, sizes: &PasteSizes) -> TensorSpec {
    TensorSpec::new([sizes.words].into(), DType::I32)
}

impl<B: Backend + PasteOps, C: CheckpointStrategy> PasteOps for Autodiff<B, C> {
    fn paste_masks(
        masks: FloatTensor<Self>,
        table: IntTensor<Self>,
        sizes: PasteSizes,
    ) -> IntTensor<Self> {
        B::paste_masks(masks.into_primitive(), table, sizes)
    }
}

/// Pastes the masks of a batch and thresholds them: one bit per pixel of their windows.
///
/// * `masks` - probabilities `[r, s, s]`, the masks of the windows of the batch.
/// * `batch` - not empty, see [`PasteBatch::plan`].
///
/// Returns the i32 words of the parts of the batch, which [`PasteBatch::parts`] separates. Each column of a window
/// starts a new word, lowest bit on top. A pixel is 1 if [`paste_mask`] gives more than `threshold`; NaN gives 0. Not
/// differentiable.
///
/// # Panics
///
/// If the shapes do not match.
pub fn paste_masks(masks: Tensor<3>, batch: &PasteBatch, threshold: f32) -> Tensor<1, Int> {
    let [count, side, columns] = masks.dims();
    assert_eq!(side, columns, "paste_masks: the masks must be square");
    assert!(
        batch.masks_end() <= count && batch.side() == side && batch.words() > 0,
        "paste_masks: a batch of {} words needs {} or more masks with {} cells per side, not {count} masks with {side}",
        batch.words(),
        batch.masks_end(),
        batch.side()
    );
    let table = TensorData::new(batch.table(), [batch.len(), ENTRY]);
    let table = Tensor::<2, Int>::from_data(table, (&masks.device(), DType::I32));
    let sizes = PasteSizes {
        words: batch.words(),
        largest: batch.largest(),
        threshold,
    };
    Tensor::from_dispatch(<Dispatch as PasteOps>::paste_masks(
        to_f32(masks).into_dispatch(),
        table.cast(IntDType::I32).into_dispatch(),
        sizes,
    ))
}
