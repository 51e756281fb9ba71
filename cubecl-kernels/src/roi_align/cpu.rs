//! RoIAlign on host memory, parallel over RoIs (forward) and rows of the pyramid (backward).
//!
//! The bilinear samples of a bin form a separable grid, so the weights of a bin are an outer product of few row weights
//! and few column weights. Samples that read the same cell are merged first: small boxes, whose bins are narrower than
//! a cell, read 4 cells per bin instead of 16.

use super::taps::{MAX_COORDINATE, Tap, axis_taps};
use super::{PyramidLevel, RoiAlignParams};
use crate::cpu_conv::{Output, with_scratch};
use crate::cpu_memory::write;
use crate::cpu_tasks::{for_each_item, for_each_task, map_tasks};
use crate::flex::floats;
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

/// `pyramid [n, cells, c]`, `rois [r, 6]` -> `[r, c, h, w]`.
pub fn forward(
    pyramid: &[f32],
    [images, cells, channels]: [usize; 3],
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
            let image = &pyramid[roi.image * cells * channels..][..cells * channels];
            with_scratch(len, |by_bin| {
                roi.pool(image, channels, by_bin);
                transpose(by_bin, bins, channels, pooled);
            });
        });
    })
}

/// Contiguous `grad [r, c, h, w]`, `rois [r, 6]` -> the gradient of the pyramid, `[images, cells, c]`.
///
/// One thread sums each row of the pyramid in the order of the RoIs, without atomics and with the same bits in every
/// run.
pub fn backward(
    grad: FlexTensor,
    rois: &[f32],
    params: &RoiAlignParams,
    images: usize,
) -> FlexTensor {
    let shape = [images, params.cells(), grad.layout().shape()[1]];
    write(shape, |gradient| {
        spread(gradient, shape, grad, rois, params, |band, gradients| {
            band.fill(0.0);
            gradients.add_to(band);
        });
    })
}

/// Adds the gradient to `sums [images, cells, c]`; the results have the bits of a sum of [`backward`] and `sums`.
pub fn accumulate(
    sums: Output,
    shape: [usize; 3],
    grad: FlexTensor,
    rois: &[f32],
    params: &RoiAlignParams,
) {
    spread(sums, shape, grad, rois, params, |band, gradients| {
        if gradients.rois.is_empty() {
            return;
        }
        let mut gradient = vec![0.0; band.len()];
        gradients.add_to(&mut gradient);
        for (sum, gradient) in band.iter_mut().zip(gradient) {
            *sum += gradient;
        }
    });
}

/// Calls `store` with every band of `gradient [images, cells, c]` and the gradients of its RoIs.
fn spread(
    gradient: Output,
    [images, cells, channels]: [usize; 3],
    grad: FlexTensor,
    rois: &[f32],
    params: &RoiAlignParams,
    store: impl Fn(&mut [f32], &BandGradients) + Sync + Send,
) {
    let (rois, _) = rois.as_chunks::<6>();
    let bins = params.output[0] * params.output[1];
    let len = channels * bins;
    let operations = floats(&grad).len() * READS;
    let pooled_rois: Vec<Option<PooledRoi>> = map_tasks(rois.len(), operations, |roi| {
        PooledRoi::new(&rois[roi], params, images)
    });
    let by_bin = by_bin(floats(&grad), [rois.len(), channels, bins]);
    // A training step needs most of its memory here.
    drop(grad);
    // SAFETY: the only slice.
    let gradient = unsafe { gradient.slice(0, images * cells * channels) };
    let bands = bands(gradient, params, images, channels);
    for_each_item(bands, operations, |band| {
        let grads = floats(&by_bin).chunks(len.max(1));
        let rois = pooled_rois.iter().zip(grads);
        let rois = rois.filter_map(|(roi, grad)| Some((roi.as_ref()?, grad)));
        let gradients = BandGradients {
            rois: rois
                .filter(|(roi, _)| roi.reaches(&band, channels))
                .collect(),
            channels,
            first_row: band.first_row,
        };
        store(band.cells, &gradients);
    });
}

/// `grad [r, c, h, w]` -> `[r, h * w, c]`, in which the channels of a bin are contiguous, like those of a cell.
fn by_bin(grad: &[f32], [rois, channels, bins]: [usize; 3]) -> FlexTensor {
    let len = channels * bins;
    write([rois, bins, channels], |out| {
        for_each_task(rois, grad.len() * READS, |roi| {
            // SAFETY: one task per RoI.
            let out = unsafe { out.slice(roi * len, len) };
            transpose(&grad[roi * len..][..len], channels, bins, out);
        });
    })
}

/// Rows of one level of one image, owned by one thread.
struct Band<'a> {
    image: usize,
    level: &'a PyramidLevel,
    first_row: usize,
    cells: &'a mut [f32],
}

/// The RoIs that reach a band, with their gradients `[bins, c]`.
struct BandGradients<'a> {
    rois: Vec<(&'a PooledRoi<'a>, &'a [f32])>,
    channels: usize,
    first_row: usize,
}

impl BandGradients<'_> {
    /// Adds the gradients to the cells of the band.
    #[inline(always)]
    fn add_to(&self, cells: &mut [f32]) {
        for (roi, grad) in &self.rois {
            roi.spread(grad, self.channels, self.first_row, cells);
        }
    }
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

    /// Writes the bins `[bins, c]` of one image `[cells, c]`.
    #[inline(always)]
    fn pool(&self, image: &[f32], channels: usize, bins: &mut [f32]) {
        let level = &image[self.level.offset * channels..];
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
                    *block = weighted_sum(&level[index * BLOCK..], &cells);
                }
                let done = blocks.len() * BLOCK;
                rest.fill(0.0);
                for &(cell, weight) in &cells {
                    let values = &level[cell + done..][..rest.len()];
                    add_scaled(rest, values, weight);
                }
            }
        }
    }

    /// Whether a bin reads a row of the band.
    fn reaches(&self, band: &Band<'_>, channels: usize) -> bool {
        let end = band.first_row + band.cells.len() / (band.level.width * channels).max(1);
        let mut rows = self.rows.iter().flatten();
        self.image == band.image
            && std::ptr::eq(self.level, band.level)
            && rows.any(|(y, _)| (band.first_row..end).contains(y))
    }

    /// Adds the gradient `[bins, c]` of this RoI to the rows of a band.
    #[inline(always)]
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
