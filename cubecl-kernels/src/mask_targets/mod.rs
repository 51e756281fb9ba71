//! Mask targets: ground-truth masks inside RoIs, on the device.

mod cpu;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;

pub use cpu::mask_target;

use crate::dtype::to_f32;
use crate::upload::upload_dense;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Int, IntDType, Tensor, TensorData};

/// Mask targets as a backend operation; use [`mask_targets`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait MaskTargetOps: Backend {
    /// `[n, s, side * side]`; inputs as in [`mask_targets`].
    #[fusion(meta = output_spec)]
    fn mask_targets(
        rois: FloatTensor<Self>,
        matched: IntTensor<Self>,
        windows: IntTensor<Self>,
        words: IntTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;

#[cfg(feature = "fusion")]
fn output_spec(
    rois: &TensorSpec,
    _matched: &TensorSpec,
    _windows: &TensorSpec,
    _words: &TensorSpec,
    side: &usize,
) -> TensorSpec {
    let shape = [rois.shape[0], rois.shape[1], side * side];
    TensorSpec::new(shape.into(), rois.dtype)
}

impl<B: Backend + MaskTargetOps, C: CheckpointStrategy> MaskTargetOps for Autodiff<B, C> {
    fn mask_targets(
        rois: FloatTensor<Self>,
        matched: IntTensor<Self>,
        windows: IntTensor<Self>,
        words: IntTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self> {
        let rois = rois.into_primitive();
        Self::from_inner(B::mask_targets(rois, matched, windows, words, side))
    }
}

/// Window of a mask in its image, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskWindow {
    /// Left column and top row.
    pub origin: (usize, usize),
    /// Width and height.
    pub size: (usize, usize),
    /// Width and height of the image.
    pub image: (usize, usize),
}

/// The masks of a batch, one bit per pixel of their windows.
#[derive(Clone, Debug, Default)]
pub struct BitMasks {
    /// One window per slot: origin, size, size of the image, first word.
    windows: Vec<[i32; WINDOW]>,
    /// Rows of bits, lowest bit first; each row starts a new word.
    words: Vec<i32>,
}

/// Numbers per window.
const WINDOW: usize = 7;

impl BitMasks {
    /// Adds a mask: its window and the pixels in it, row-major, 0 or 1. Panics if `cells` is not one value per pixel.
    pub fn push(&mut self, window: MaskWindow, cells: &[u8]) {
        let MaskWindow {
            origin: (x, y),
            size: (width, height),
            image: (image_width, image_height),
        } = window;
        assert_eq!(
            cells.len(),
            width * height,
            "cells must have one value per pixel of the window"
        );
        let numbers = [x, y, width, height, image_width, image_height];
        let [x, y, width, height, image_width, image_height] = numbers.map(|v| v as i32);
        let first = self.words.len() as i32;
        self.windows
            .push([x, y, width, height, image_width, image_height, first]);
        for row in cells.chunks(window.size.0.max(1)) {
            self.words.extend(row.chunks(32).map(|cells| {
                let bits = cells.iter().enumerate();
                bits.fold(0, |word, (bit, &cell)| word | i32::from(cell != 0) << bit)
            }));
        }
    }

    /// Adds empty masks up to `slots` masks.
    pub fn pad(&mut self, slots: usize) {
        self.windows
            .resize(slots.max(self.windows.len()), [0; WINDOW]);
    }

    /// The table of windows `[n, slots, 7]` and the words, for [`mask_targets`]. The masks of `n`
    /// images must have been added in order, with the same number per image.
    pub fn upload(&self, n: usize, device: &Device) -> (Tensor<3, Int>, Tensor<1, Int>) {
        let slots = self.windows.len() / n.max(1);
        let windows = self.windows.as_flattened().to_vec();
        // Never empty, and rounded to few lengths, so that buffers are reused.
        let mut words = self.words.clone();
        words.resize(words.len().next_power_of_two().max(1024), 0);
        let length = words.len();
        let windows = TensorData::new(windows, [n, slots, WINDOW]);
        (
            upload_dense(windows, device),
            Tensor::from_data(TensorData::new(words, [length]), device),
        )
    }
}

/// The masks inside `rois` as `side x side` targets in `0..=1`: RoIAlign of each matched mask with adaptive sampling,
/// as torchvision's `project_masks_on_boxes`.
///
/// * `rois` - `[n, s, 4]`, in pixels of the images.
/// * `matched` - `[n, s]`: slot of the mask of each RoI; negative for none, whose target is zero.
/// * `windows`, `words` - see [`BitMasks::upload`].
///
/// Returns `[n, s, side * side]`, row-major. Not differentiable.
///
/// # Panics
///
/// If the shapes do not match.
pub fn mask_targets(
    rois: Tensor<3>,
    matched: Tensor<2, Int>,
    (windows, words): (Tensor<3, Int>, Tensor<1, Int>),
    side: usize,
) -> Tensor<3> {
    let [n, slots, _] = rois.dims();
    assert_eq!(
        matched.dims(),
        [n, slots],
        "matched must have one entry per RoI"
    );
    assert_eq!(windows.dims()[0], n, "windows must have one row per image");
    Tensor::from_dispatch(<Dispatch as MaskTargetOps>::mask_targets(
        to_f32(rois).into_dispatch(),
        matched.cast(IntDType::I32).into_dispatch(),
        windows.cast(IntDType::I32).into_dispatch(),
        words.cast(IntDType::I32).into_dispatch(),
        side,
    ))
}
