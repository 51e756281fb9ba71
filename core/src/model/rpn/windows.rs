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
    /// `None` for windows of one convolution, whose cells beyond the map are pooled as zeros.
    pub(super) inside: Option<Tensor<2>>,
    /// The image of each sample, `[n * k, 1]`.
    pub(super) images: Tensor<2>,
}

impl Windows {
    /// The windows of all cells of levels of `grids` `(rows, columns)`, for `k` samples of each of `n` images.
    pub(super) fn new(
        features: &PackedPyramid,
        grids: &[(usize, usize)],
        side: usize,
        [n, k]: [usize; 2],
        device: &Device,
    ) -> Self {
        let cells: usize = grids.iter().map(|(h, w)| h * w).sum();
        let mut rois = Vec::with_capacity(cells * WINDOW_ROI);
        for (level, &grid) in grids.iter().enumerate() {
            for cell in cells_of(grid) {
                rois.extend(features.window(level, cell, side));
            }
        }
        let table = |values: Vec<f32>, columns: usize| {
            Tensor::from_data(TensorData::new(values, [cells, columns]), device)
        };
        let images: Vec<f32> = (0..n * k).map(|sample| (sample / k) as f32).collect();
        let inside = (side > SIDE_OF_ONE).then(|| {
            let inside = table(cells_on_map(grids, side), side * side);
            to(inside, features.dtype().into())
        });
        Self {
            rois: table(rois, WINDOW_ROI),
            inside,
            images: Tensor::from_data(TensorData::new(images, [n * k, 1]), device),
        }
    }
}

/// Side of the windows of one convolution.
const SIDE_OF_ONE: usize = 3;

/// The values of [`Windows::inside`].
fn cells_on_map(grids: &[(usize, usize)], side: usize) -> Vec<f32> {
    let is_inside = |at: usize, offset: usize, count: usize| {
        (side / 2..side / 2 + count).contains(&(at + offset))
    };
    let mut inside = Vec::new();
    for &(height, width) in grids {
        for (y, x) in cells_of((height, width)) {
            inside.extend(cells_of((side, side)).map(|(down, right)| {
                f32::from(is_inside(y, down, height) && is_inside(x, right, width))
            }));
        }
    }
    inside
}

/// Row and column of each cell, row by row.
fn cells_of((height, width): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}
