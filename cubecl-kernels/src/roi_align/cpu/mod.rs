//! RoIAlign on host memory, parallel over RoIs (forward) and rows of the pyramid (backward).
//!
//! The bilinear samples of a bin form a separable grid, so the weights of a bin are an outer product of few row weights
//! and few column weights. Samples that read the same cell are merged first: small boxes, whose bins are narrower than
//! a cell, read 4 cells per bin instead of 16.

mod backward;

pub use backward::{accumulate, backward};

use super::taps::{MAX_COORDINATE, Tap, axis_taps};
use super::{PyramidLevel, RoiAlignParams};
use crate::cpu_conv::with_scratch;
use crate::cpu_memory::write;
use crate::cpu_tasks::for_each_task;
use burn_flex::FlexTensor;

/// Approximate number of cells that a bin reads, used as the work per value of the result.
const READS: usize = 9;

/// Channels that are summed in registers.
const BLOCK: usize = 32;

/// Image and level of an RoI, and the taps of each bin row and bin column.
struct PooledRoi<'a> {
    image: usize,
    level: &'a PyramidLevel,
    rows: Vec<Vec<Tap>>,
    columns: Vec<Vec<Tap>>,
}

/// `pyramid [images * cells, c]`, `rois [r, 6]` -> `[r, c, h, w]`.
pub fn forward(
    pyramid: &[f32],
    [images, channels]: [usize; 2],
    rois: &[f32],
    params: &RoiAlignParams,
) -> FlexTensor {
    let [height, width] = params.output;
    let bins = height * width;
    let (rois, _) = rois.as_chunks::<6>();
    let len = channels * bins;
    write([rois.len(), channels, height, width], |pooled| {
        for_each_task(rois.len(), rois.len() * len * READS, |index| {
            // SAFETY: one task per RoI.
            let pooled = unsafe { pooled.slice(index * len, len) };
            let Some(roi) = PooledRoi::new(&rois[index], params, images) else {
                return pooled.fill(0.0);
            };
            let PyramidLevel { height, width, .. } = roi.level;
            let first = images * roi.level.offset + roi.image * height * width;
            let map = &pyramid[first * channels..][..height * width * channels];
            with_scratch(len, |by_bin| {
                roi.pool(map, channels, by_bin);
                transpose(by_bin, bins, channels, pooled);
            });
        });
    })
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
                params.zero_padding,
            )
        };
        Some(Self {
            image,
            level,
            rows: axis(y1, y2, height, level.height),
            columns: axis(x1, x2, width, level.width),
        })
    }

    /// Writes the bins `[bins, c]` of a map `[cells, c]`.
    #[inline(always)]
    fn pool(&self, map: &[f32], channels: usize, bins: &mut [f32]) {
        let width = self.level.width;
        let mut bins = bins.chunks_mut(channels);
        // Index of the first channel of each cell that the bin reads, and the weight of the cell.
        let mut cells: Vec<Tap> = Vec::new();
        for rows in &self.rows {
            for columns in &self.columns {
                let Some(bin) = bins.next() else { return };
                cells.clear();
                cells.extend(rows.iter().flat_map(|&(y, row_weight)| {
                    columns.iter().map(move |&(x, column_weight)| {
                        ((y * width + x) * channels, row_weight * column_weight)
                    })
                }));
                let (blocks, rest) = bin.as_chunks_mut::<BLOCK>();
                for (index, block) in blocks.iter_mut().enumerate() {
                    *block = weighted_sum(&map[index * BLOCK..], &cells);
                }
                let done = blocks.len() * BLOCK;
                rest.fill(0.0);
                for &(cell, weight) in &cells {
                    let values = &map[cell + done..][..rest.len()];
                    add_scaled(rest, values, weight);
                }
            }
        }
    }
}

/// An index stored as a float, if it is below `count`.
fn index_below(value: f32, count: usize) -> Option<usize> {
    (value >= 0.0 && value < count as f32).then_some(value as usize)
}

/// Weighted sum of the `BLOCK` values that start at each index of `places`, added in the order of `places`.
#[inline(always)]
fn weighted_sum(values: &[f32], places: &[Tap]) -> [f32; BLOCK] {
    let mut sums = [0.0f32; BLOCK];
    for &(place, weight) in places {
        let values: &[f32; BLOCK] = values[place..].first_chunk().expect("a block of a cell");
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += weight * value;
        }
    }
    sums
}

#[inline(always)]
fn add_scaled(target: &mut [f32], source: &[f32], weight: f32) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += weight * source;
    }
}

/// Columns that are transposed together: each cache line of the source is read at once, and those of the target stay
/// in the cache.
const COLUMNS: usize = 16;

/// `[rows, columns]` -> `[columns, rows]`.
#[inline(always)]
fn transpose(source: &[f32], rows: usize, columns: usize, target: &mut [f32]) {
    for first in (0..columns).step_by(COLUMNS) {
        let end = (first + COLUMNS).min(columns);
        for row in 0..rows {
            for column in first..end {
                target[column * rows + row] = source[row * columns + column];
            }
        }
    }
}
