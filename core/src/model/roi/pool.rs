//! RoIs, and pooling their features with RoIAlign.

use crate::boxes::{Bbox, pyramid_level};
use crate::config::RoiConfig;
#[cfg(feature = "train")]
use crate::model::slots::on;
#[cfg(feature = "train")]
use burn::tensor::{DType, Int};
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{RoiAlignParams, pack_pyramid, roi_align};

/// A RoI: the index of its image, and its box in pixels of the resized image.
pub type Roi = (usize, Bbox);

/// Features are pooled from P2 (k = 2) to P5; P6 serves the RPN only.
const POOLED_LEVELS: (i32, i32) = (2, 5);

/// RoIs on a device, each with the pyramid level that fits its size.
#[derive(Clone, Debug)]
pub struct Rois(Tensor<2>);

impl Rois {
    /// The RoIs, of which there must be at least one.
    pub fn new(rois: &[Roi], device: &Device) -> Self {
        let (k_min, k_max) = POOLED_LEVELS;
        let rows = rois.iter().flat_map(|&(image, [x1, y1, x2, y2])| {
            let level = pyramid_level(&[x1, y1, x2, y2], k_min, k_max);
            [image as f32, level as f32, x1, y1, x2, y2]
        });
        let rows = TensorData::new(rows.collect::<Vec<f32>>(), [rois.len(), 6]);
        Self(Tensor::from_data(rows, device))
    }

    /// All slots of boxes `[n, slots, 4]`, pixels of the resized images.
    pub fn from_slots(boxes: Tensor<3>) -> Self {
        Self(roi_rows(boxes, POOLED_LEVELS))
    }

    /// The RoIs for features on `device`, which may have autodiff. No gradient flows to RoIs.
    #[cfg(feature = "train")]
    pub(crate) fn on(&self, device: &Device) -> Self {
        Self(on(&self.0, device))
    }

    /// The RoIs at the indices `slots`.
    #[cfg(feature = "train")]
    pub(crate) fn select(self, slots: Tensor<1, Int>) -> Self {
        Self(self.0.select(0, slots))
    }
}

/// Boxes `[n, slots, 4]` as `[n * slots, 6]` rows for RoIAlign: image, level `k_min..=k_max`
/// counted from `k_min`, box. Levels as [`crate::boxes::pyramid_level`] gives them.
pub fn roi_rows(boxes: Tensor<3>, (k_min, k_max): (i32, i32)) -> Tensor<2> {
    // A box is pooled from level k or a coarser one if its side is 224 * 2^(k - 4) pixels or
    // more: comparisons round the same on every device, logarithms do not.
    let smallest = (k_min + 1..=k_max).map(|k| 224.0 * (k as f32 - 4.0 - 1e-6).exp2());
    mrcnn_kernels::roi_rows(boxes, &smallest.collect::<Vec<_>>())
}

/// Number of values of a [`PackedPyramid::window`]: its level and its corners.
#[cfg(feature = "train")]
pub(crate) const WINDOW_ROI: usize = 5;

/// P2 to P5 as one channels-last tensor, ready for RoIAlign.
#[derive(Clone, Debug)]
pub struct PackedPyramid {
    /// `[cells, c]`, see [`pack_pyramid`].
    cells: Tensor<2>,
    align: RoiAlignParams,
}

impl PackedPyramid {
    /// Packs P2 to P5 `[n, c, h, w]`, at strides 4 to 32 of the resized images; further levels are left out.
    ///
    /// # Panics
    ///
    /// If there are fewer than four levels.
    pub fn new(pyramid: &[Tensor<4>], roi: &RoiConfig) -> Self {
        let scales = [0.25, 0.125, 0.0625, 0.03125];
        let (cells, levels) = pack_pyramid(&pyramid[..4], &scales);
        let align = RoiAlignParams {
            output: [0, 0],
            sampling_ratio: roi.sampling_ratio,
            aligned: roi.aligned,
            zero_padding: false,
            levels,
        };
        Self { cells, align }
    }

    /// The device of the features.
    pub fn device(&self) -> Device {
        self.cells.device()
    }

    /// RoIAlign of `r` RoIs: `[r, c, bins, bins]`.
    pub fn pool(&self, rois: &Rois, bins: usize) -> Tensor<4> {
        let align = RoiAlignParams {
            output: [bins, bins],
            ..self.align.clone()
        };
        roi_align(self.cells.clone(), rois.0.clone(), &align)
    }

    /// The RoI `level, x1, y1, x2, y2`, in pixels, whose bins are the `side` by `side` cells around cell `(y, x)` of a
    /// level of the RPN. Each level above the last pooled one has every second cell of the level below.
    #[cfg(feature = "train")]
    pub(crate) fn window(
        &self,
        level: usize,
        (y, x): (usize, usize),
        side: usize,
    ) -> [f32; WINDOW_ROI] {
        let pooled = level.min(self.align.levels.len() - 1);
        let spacing = (1 << (level - pooled)) as f32;
        // Strides are powers of two, so each sample is exactly the middle of a cell.
        let stride = 1.0 / self.align.levels[pooled].scale;
        let corner = |at: usize, half: f32| (at as f32 + half) * spacing * stride;
        let half = side as f32 / 2.0;
        let [x1, y1, x2, y2] = [
            corner(x, -half),
            corner(y, -half),
            corner(x, half),
            corner(y, half),
        ];
        [pooled as f32, x1, y1, x2, y2]
    }

    /// The dtype of the features.
    #[cfg(feature = "train")]
    pub(crate) fn dtype(&self) -> DType {
        self.cells.dtype()
    }

    /// The cells of windows of `side` by `side` cells, `rois [r, 6]` with their images: `[r, c, side, side]`. Cells
    /// beyond the map are zero.
    #[cfg(feature = "train")]
    pub(crate) fn pool_windows(&self, rois: Tensor<2>, side: usize) -> Tensor<4> {
        let align = RoiAlignParams {
            output: [side, side],
            sampling_ratio: 1,
            aligned: false,
            zero_padding: true,
            levels: self.align.levels.clone(),
        };
        roi_align(self.cells.clone(), rois, &align)
    }
}
