//! The windows of cells that the RPN's predictions depend on.

use crate::model::layers::to;
use crate::model::roi::pool::{PackedPyramid, WINDOW_ROI};
use burn::tensor::{Device, Tensor, TensorData};

/// Windows of `side` by `side` cells around `r` cells of the RPN's levels.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    /// RoIs without their images, `[r, WINDOW_ROI]`.
    pub(super) rois: Tensor<2>,
    /// 1 for each cell of the window that is on the map, 0 elsewhere: `[r, side * side]` in the dtype of the features.
    pub(super) inside: Tensor<2>,
}

impl Windows {
    /// The windows of all cells of levels of `grids` `(rows, columns)`.
    pub(super) fn new(
        features: &PackedPyramid,
        grids: &[(usize, usize)],
        side: usize,
        device: &Device,
    ) -> Self {
        let cells = grids.iter().map(|(h, w)| h * w).sum();
        let is_inside = |at: usize, offset: usize, count: usize| {
            (side / 2..side / 2 + count).contains(&(at + offset))
        };
        let mut rois = Vec::with_capacity(cells * WINDOW_ROI);
        let mut inside = Vec::with_capacity(cells * side * side);
        let offsets = || (0..side).flat_map(|down| (0..side).map(move |right| (down, right)));
        for (level, &(height, width)) in grids.iter().enumerate() {
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                rois.extend(features.window(level, (y, x), side));
                inside.extend(offsets().map(|(down, right)| {
                    f32::from(is_inside(y, down, height) && is_inside(x, right, width))
                }));
            }
        }
        let table = |values: Vec<f32>, columns: usize| {
            Tensor::from_data(TensorData::new(values, [cells, columns]), device)
        };
        Self {
            rois: table(rois, WINDOW_ROI),
            inside: to(table(inside, side * side), features.dtype().into()),
        }
    }
}
