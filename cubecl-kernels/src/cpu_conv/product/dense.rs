//! Blocks of a 1x1 convolution with stride 1: every tile is stored as soon as it is computed, in place where it is
//! whole.

use super::super::scratch::with_scratch;
use super::block::Pixels;
use super::store::store_row;
use super::{GROUP, Job};
use std::ops::Range;

/// Maximum number of groups of outputs that read the source in place. The pixels of a tile are in as many memory
/// pages as there are channels; more groups read them from a strip.
const GROUPS_IN_PLACE: usize = 2;

impl Job<'_> {
    /// The position of the first pixel of `rows` in the first channel of the output, if the pixels of a block are
    /// neighbors in the output and all channels are added in one pass.
    pub(super) fn dense_start(&self, rows: &Range<usize>) -> Option<usize> {
        let [h, w] = self.view.size;
        let image = rows.start / h.max(1);
        let is_dense = self.view.is_dense() && self.place.step == 1 && rows.end <= (image + 1) * h;
        (is_dense && self.depth >= self.weights.channels && !rows.is_empty())
            .then(|| image * self.weights.outputs * h * w + (rows.start - image * h) * w)
    }

    /// Computes `rows`, whose first pixel is at `start` in the output.
    pub(super) fn dense_block(&self, rows: Range<usize>, groups: Range<usize>, start: usize) {
        let ([h, w], tile) = (self.view.size, self.isa.tile());
        let (plane, channels) = (h * w, self.weights.channels);
        let count = rows.len() * w;
        let pixels = count.next_multiple_of(tile);
        let stride = self.strips.channel_stride();
        with_scratch(GROUP * tile + channels * stride, |scratch| {
            let (sums, strip) = scratch.split_at_mut(GROUP * tile);
            let image = rows.start / h;
            let from = (image * channels * h + rows.start - image * h) * w;
            // A last tile reads pixels beyond the block.
            let is_in_place = groups.len() <= GROUPS_IN_PLACE
                && from + channels.saturating_sub(1) * plane + pixels <= self.source.len();
            let input = if is_in_place {
                let values = &self.source[from..];
                Pixels {
                    values,
                    stride: plane,
                }
            } else {
                self.strips
                    .fill(self.source, channels, 0, rows.clone(), strip);
                let values = &*strip;
                Pixels { values, stride }
            };
            let ahead = self.next_strip(&rows, channels);
            for (pixel, group) in self.tiles(pixels, groups.clone(), channels * input.stride) {
                let ahead = ahead.filter(|_| group == groups.start);
                let at = start + group * GROUP * plane + pixel;
                let len = tile.min(count - pixel);
                let in_place = self.whole_tile(group, at, len).map(|to| (to, plane));
                let (to, pitch) = in_place.unwrap_or((sums.as_mut_ptr(), tile));
                // SAFETY: `whole_tile` and `sums` have `GROUP` rows; strips have whole tiles, and so has the source
                // from `from` on, which was checked. A 1x1 kernel has no margins. The rows and channels of a block
                // are written by it alone.
                unsafe { self.multiply(0..channels, (pixel, group), input, ahead, to, pitch) };
                if in_place.is_none() {
                    self.store_tile(group, at, len, sums);
                }
            }
        })
    }

    /// The tile in the output, if all of its values exist and nothing is done to the sums.
    fn whole_tile(&self, group: usize, at: usize, len: usize) -> Option<*mut f32> {
        let [h, w] = self.view.size;
        let is_plain = self.epilogue.residual.is_none() && !self.epilogue.relu;
        let is_whole = len == self.isa.tile() && (group + 1) * GROUP <= self.weights.outputs;
        (is_plain && is_whole).then(|| {
            let rows = self.output.part(at, (GROUP - 1) * h * w + len);
            rows.as_mut_ptr()
        })
    }

    /// Stores `len` pixels of each of the group's sums.
    fn store_tile(&self, group: usize, at: usize, len: usize, sums: &[f32]) {
        let [h, w] = self.view.size;
        let outputs = GROUP.min(self.weights.outputs - group * GROUP);
        for (row, sums) in sums.chunks_exact(self.isa.tile()).take(outputs).enumerate() {
            let at = at + row * h * w;
            let residual = self
                .epilogue
                .residual
                .map(|residual| &residual[at..][..len]);
            // SAFETY: the rows and channels of a block are written by it alone.
            let line = unsafe { self.output.slice(at, len) };
            store_row(&sums[..len], residual, self.epilogue.relu, line);
        }
    }
}
