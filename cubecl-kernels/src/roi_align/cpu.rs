//! RoIAlign on host memory, parallel over RoIs (forward) and rows of the pyramid (backward).
//!
//! The bilinear samples of a bin form a separable grid, so the weights of a bin are an outer product of few row weights
//! and few column weights. Samples that read the same cell are merged first: small boxes, whose bins are narrower than
//! a cell, read 4 cells per bin instead of 16.

use super::taps::MAX_COORDINATE;
pub use super::taps::{Tap, axis_taps};
use super::{PyramidLevel, RoiAlignParams};
use burn::tensor::TensorData;
use rayon::prelude::*;

/// Image and level of an RoI, and the taps of each bin row and bin column.
struct PooledRoi<'a> {
    image: usize,
    level: &'a PyramidLevel,
    rows: Vec<Vec<Tap>>,
    columns: Vec<Vec<Tap>>,
}

/// `pyramid [n, cells, c]`, `rois [r, 6]` -> `[r, c, h, w]`.
pub fn forward(
    pyramid: &[f32],
    [images, cells, channels]: [usize; 3],
    rois: &[f32],
    params: &RoiAlignParams,
) -> TensorData {
    let [height, width] = params.output;
    let bins = height * width;
    let count = rois.len() / 6;
    let mut pooled = vec![0.0f32; count * channels * bins];
    pooled
        .par_chunks_mut((channels * bins).max(1))
        .zip(rois.par_chunks(6))
        .for_each_init(
            || vec![0.0f32; channels * bins],
            |scratch, (out, roi)| {
                let Some(pooled_roi) = PooledRoi::new(roi, params, images) else {
                    return;
                };
                let image = &pyramid[pooled_roi.image * cells * channels..][..cells * channels];
                scratch.fill(0.0);
                pooled_roi.pool(image, channels, scratch);
                transpose(scratch, bins, channels, out);
            },
        );
    TensorData::new(pooled, [count, channels, height, width])
}

/// `grad [r, c, h, w]`, `rois [r, 6]` -> the gradient of the pyramid, `[images, cells, c]`.
///
/// One thread sums each row of the pyramid in the order of the RoIs, without atomics and with the same bits in every
/// run.
pub fn backward(
    grad: &[f32],
    channels: usize,
    rois: &[f32],
    params: &RoiAlignParams,
    images: usize,
) -> TensorData {
    let bins = params.output[0] * params.output[1];
    let cells = params.cells();
    let mut gradient = vec![0.0f32; images * cells * channels];
    if channels > 0 && !rois.is_empty() {
        let pooled_rois: Vec<Option<PooledRoi>> = rois
            .par_chunks(6)
            .map(|roi| PooledRoi::new(roi, params, images))
            .collect();
        let mut by_bin = vec![0.0f32; grad.len()];
        by_bin
            .par_chunks_mut(channels * bins)
            .zip(grad.par_chunks(channels * bins))
            .for_each(|(out, grad)| transpose(grad, channels, bins, out));
        bands(&mut gradient, params, images, channels)
            .into_par_iter()
            .for_each(|band| {
                for (pooled_roi, grad) in pooled_rois.iter().zip(by_bin.chunks(channels * bins)) {
                    let Some(pooled_roi) = pooled_roi else {
                        continue;
                    };
                    if pooled_roi.image == band.image && std::ptr::eq(pooled_roi.level, band.level)
                    {
                        pooled_roi.spread(grad, channels, band.first_row, band.cells);
                    }
                }
            });
    }
    TensorData::new(gradient, [images, cells, channels])
}

/// Rows of one level of one image, owned by one thread.
struct Band<'a> {
    image: usize,
    level: &'a PyramidLevel,
    first_row: usize,
    cells: &'a mut [f32],
}

/// Rows per band: enough bands to balance the work, and few enough to visit each RoI rarely.
const BAND_ROWS: usize = 8;

fn bands<'a>(
    mut gradient: &'a mut [f32],
    params: &'a RoiAlignParams,
    images: usize,
    channels: usize,
) -> Vec<Band<'a>> {
    let mut bands = Vec::new();
    for image in 0..images {
        for level in &params.levels {
            for first_row in (0..level.height).step_by(BAND_ROWS) {
                let rows = BAND_ROWS.min(level.height - first_row);
                let (cells, rest) = gradient.split_at_mut(rows * level.width * channels);
                gradient = rest;
                bands.push(Band {
                    image,
                    level,
                    first_row,
                    cells,
                });
            }
        }
    }
    bands
}

impl<'a> PooledRoi<'a> {
    /// `None` for an RoI that pools zeros, see [`super::roi_align`].
    fn new(roi: &[f32], params: &'a RoiAlignParams, images: usize) -> Option<Self> {
        let image = index_below(roi[0], images)?;
        let level = &params.levels[index_below(roi[1], params.levels.len())?];
        let offset = if params.aligned { 0.5 } else { 0.0 };
        let corners = [2, 3, 4, 5].map(|i| roi[i] * level.scale - offset);
        if !corners.iter().all(|c| c.abs() <= MAX_COORDINATE) {
            return None;
        }
        let [x1, y1, x2, y2] = corners;
        let [height, width] = params.output;
        let axis = |from: f32, to: f32, bins, length| {
            axis_taps(
                from,
                to - from,
                bins,
                length,
                params.sampling_ratio,
                params.aligned,
            )
        };
        Some(Self {
            image,
            level,
            rows: axis(y1, y2, height, level.height),
            columns: axis(x1, x2, width, level.width),
        })
    }

    /// Adds the bins `[bins, c]` of one image `[cells, c]`.
    fn pool(&self, image: &[f32], channels: usize, bins: &mut [f32]) {
        let level = &image[self.level.offset * channels..];
        let width = self.level.width;
        let mut bins = bins.chunks_mut(channels);
        for rows in &self.rows {
            for columns in &self.columns {
                let Some(bin) = bins.next() else { return };
                for &(y, row_weight) in rows {
                    for &(x, column_weight) in columns {
                        let cell = &level[(y * width + x) * channels..][..channels];
                        add_scaled(bin, cell, row_weight * column_weight);
                    }
                }
            }
        }
    }

    /// Adds the gradient `[bins, c]` of this RoI to the rows of a band.
    fn spread(&self, grad: &[f32], channels: usize, first_row: usize, band: &mut [f32]) {
        let width = self.level.width;
        let end = first_row + band.len() / (width * channels);
        for (bin_row, rows) in self.rows.iter().enumerate() {
            for &(y, row_weight) in rows.iter().filter(|(y, _)| (first_row..end).contains(y)) {
                for (bin_column, columns) in self.columns.iter().enumerate() {
                    let bin = bin_row * self.columns.len() + bin_column;
                    let source = &grad[bin * channels..][..channels];
                    for &(x, column_weight) in columns {
                        let cell = ((y - first_row) * width + x) * channels;
                        let weight = row_weight * column_weight;
                        add_scaled(&mut band[cell..][..channels], source, weight);
                    }
                }
            }
        }
    }
}

/// An index stored as a float, if it is below `count`.
fn index_below(value: f32, count: usize) -> Option<usize> {
    (value >= 0.0 && value < count as f32).then_some(value as usize)
}

#[inline]
fn add_scaled(target: &mut [f32], source: &[f32], weight: f32) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += weight * source;
    }
}

/// `[rows, columns]` -> `[columns, rows]`.
fn transpose(source: &[f32], rows: usize, columns: usize, target: &mut [f32]) {
    for row in 0..rows {
        for column in 0..columns {
            target[column * rows + row] = source[row * columns + column];
        }
    }
}
