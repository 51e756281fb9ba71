//! The last step of a block: sums, with the epilogue, become values of the output.

use super::super::geometry::copy_row;
use super::{GROUP, Job, Place};
use std::ops::Range;

impl Job<'_> {
    /// Copies the sums of the grid's pixels to the output.
    pub(super) fn store(&self, rows: Range<usize>, groups: Range<usize>, sums: &[f32]) {
        let Place {
            size: [h, w],
            step,
            phase,
            is_only_phase,
        } = self.place;
        let (pitch, image_rows) = (self.view.pitch(), self.view.grid[0] + self.view.gap[0]);
        let columns = w.saturating_sub(phase[1]).div_ceil(step);
        let outputs = self.weights.outputs;
        let first = groups.start * GROUP;
        for channel in first..(groups.end * GROUP).min(outputs) {
            let sums = &sums[(channel - first) * self.strips.pixels..][..self.strips.pixels];
            for row in rows.clone() {
                let (image, y) = (row / image_rows, row % image_rows);
                let y = y * step + phase[0];
                if y >= h || row % image_rows >= self.view.grid[0] || columns == 0 {
                    continue;
                }
                let sums = &sums[(row - rows.start) * pitch..][..columns];
                let at = ((image * outputs + channel) * h + y) * w;
                if step == 1 {
                    // SAFETY: the rows and channels of a block are written by it alone.
                    let line = unsafe { self.output.slice(at, w) };
                    let residual = self.epilogue.residual.map(|residual| &residual[at..][..w]);
                    store_row(sums, residual, self.epilogue.relu, line);
                } else if is_only_phase {
                    // SAFETY: as above, and the rows up to the next one of the grid are written with it.
                    let lines = unsafe { self.output.slice(at, step.min(h - y) * w) };
                    lines.fill(0.0);
                    store_every(step, sums, &mut lines[..w]);
                } else {
                    // SAFETY: as above; the phases are computed one after the other.
                    let line = unsafe { self.output.slice(at + phase[1], w - phase[1]) };
                    store_every(step, sums, line);
                }
            }
        }
    }
}

/// Writes `sums` to the first of every `step` values of `line`.
fn store_every(step: usize, sums: &[f32], line: &mut [f32]) {
    if step == 2 {
        let whole = line.len() / 2;
        let mut pairs = line.chunks_exact_mut(2);
        for (pair, &sum) in pairs.by_ref().zip(sums) {
            pair[0] = sum;
        }
        if let ([last], Some(&sum)) = (pairs.into_remainder(), sums.get(whole)) {
            *last = sum;
        }
        return;
    }
    for (to, &sum) in line.iter_mut().step_by(step).zip(sums) {
        *to = sum;
    }
}

pub(super) fn store_row(sums: &[f32], residual: Option<&[f32]>, relu: bool, line: &mut [f32]) {
    match (residual, relu) {
        (None, false) => copy_row(sums, line),
        (None, true) => {
            for (to, &sum) in line.iter_mut().zip(sums) {
                *to = rectified(sum);
            }
        }
        (Some(residual), false) => {
            for ((to, &sum), &residual) in line.iter_mut().zip(sums).zip(residual) {
                *to = sum + residual;
            }
        }
        (Some(residual), true) => {
            for ((to, &sum), &residual) in line.iter_mut().zip(sums).zip(residual) {
                *to = rectified(sum + residual);
            }
        }
    }
}

/// `max(value, 0)`; NaN stays NaN.
fn rectified(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}
