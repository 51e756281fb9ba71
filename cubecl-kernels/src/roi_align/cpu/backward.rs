//! Gradient of the pyramid, parallel over its rows.

use super::super::{PyramidLevel, RoiAlignParams};
use super::{PooledRoi, READS, add_scaled, transpose};
use crate::cpu_conv::with_scratch;
use crate::cpu_memory::write;
use crate::cpu_tasks::{for_each_item, for_each_task, map_tasks};
use crate::flex::floats;
use burn_flex::FlexTensor;

/// Contiguous `grad [r, c, h, w]`, `rois [r, 6]` -> the gradient of the pyramid, `[images * cells, c]`.
///
/// One thread sums each row of the pyramid in the order of the RoIs, without atomics and with the same bits in every
/// run.
pub fn backward(
    grad: FlexTensor,
    rois: &[f32],
    params: &RoiAlignParams,
    images: usize,
) -> FlexTensor {
    let shape = [images, grad.layout().shape()[1]];
    write([images * params.cells(), shape[1]], |gradient| {
        // SAFETY: the only slice.
        let gradient = unsafe { gradient.slice(0, gradient.len()) };
        for_each_band(gradient, shape, grad, rois, params, |band, gradients| {
            band.fill(0.0);
            gradients.add_to(band);
        });
    })
}

/// Adds the gradient to `sums [images * cells, c]` of `shape [images, c]`; the results are bit-equal to the sum of
/// [`backward`] and `sums`.
pub fn accumulate(
    sums: &mut [f32],
    shape: [usize; 2],
    grad: FlexTensor,
    rois: &[f32],
    params: &RoiAlignParams,
) {
    for_each_band(sums, shape, grad, rois, params, |band, gradients| {
        if gradients.rois.is_empty() {
            return;
        }
        with_scratch(band.len(), |gradient| {
            gradient.fill(0.0);
            gradients.add_to(gradient);
            for (sum, gradient) in band.iter_mut().zip(gradient) {
                *sum += *gradient;
            }
        });
    });
}

/// Calls `store` with every band of `gradient [images * cells, c]` and the gradients of its RoIs.
fn for_each_band(
    gradient: &mut [f32],
    [images, channels]: [usize; 2],
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
    for level in &params.levels {
        for image in 0..images {
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

impl PooledRoi<'_> {
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
