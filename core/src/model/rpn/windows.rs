//! The windows of cells that the RPN's predictions depend on.

use crate::model::layers::to;
use crate::model::roi::pool::{PackedPyramid, WINDOW_ROI};
use burn::tensor::{Device, Tensor, TensorData};

/// Windows of `side` by `side` cells around `r` cells of the RPN's levels.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    /// RoIs without their images, `[r, WINDOW_ROI]`.
    pub(super) rois: Tensor<2>,
    /// 1 for cells on the map and 0 for cells beyond it, of the windows that the first convolution leaves:
    /// `[r, (side - 2) * (side - 2)]` in the dtype of the features. `None` if there is no later convolution, because
    /// cells beyond the map are pooled as zeros for the first one.
    pub(super) inside: Option<Tensor<2>>,
}

impl Windows {
    /// The windows of all cells of levels of `grids` `(rows, columns)`.
    pub(super) fn new(
        features: &PackedPyramid,
        grids: &[(usize, usize)],
        side: usize,
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
        let inside = (side > SINGLE_CONV_SIDE).then(|| {
            let left = side - 2;
            let inside = table(cells_on_map(grids, left), left * left);
            to(inside, features.dtype().into())
        });
        Self {
            rois: table(rois, WINDOW_ROI),
            inside,
        }
    }
}

/// Side of the windows of an RPN with a single convolution.
const SINGLE_CONV_SIDE: usize = 3;

/// The image of each of `k` samples of each of `n` images, `[n * k, 1]`.
pub(super) fn images_of_samples([n, k]: [usize; 2], device: &Device) -> Tensor<2> {
    let images: Vec<f32> = (0..n * k).map(|sample| (sample / k) as f32).collect();
    Tensor::from_data(TensorData::new(images, [n * k, 1]), device)
}

/// 1 for each cell of the `side` by `side` window of each cell that is on the map, 0 elsewhere.
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
