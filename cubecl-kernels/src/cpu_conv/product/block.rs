//! One block of the output: strips are filled and multiplied by the weights tile by tile.

use super::super::kernels::Product;
use super::super::scratch::with_scratch;
use super::{GROUP, Job};
use std::ops::Range;

/// Maximum number of values of a strip that stay in a first-level cache beside the weights of a group.
const MAX_CACHED_VALUES: usize = 12 << 10;

/// Channels of the source at the pixels of a block.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub values: &'a [f32],
    /// Distance between channels.
    pub stride: usize,
}

impl Job<'_> {
    pub(super) fn block(&self, rows: Range<usize>, groups: Range<usize>) {
        if let Some(start) = self.dense_start(&rows) {
            return self.dense_block(rows, groups, start);
        }
        let pitch = self.strips.pixels;
        let sums_len = groups.len() * GROUP * pitch;
        let stride = self.strips.channel_stride();
        with_scratch(sums_len + self.depth * stride, |scratch| {
            let (sums, strip) = scratch.split_at_mut(sums_len);
            let pixels = (rows.len() * self.view.pitch()).next_multiple_of(self.isa.tile());
            let all = self.weights.channels;
            let mut channel = 0;
            loop {
                let channels = channel..(channel + self.depth).min(all);
                let strip = &mut strip[..channels.len() * stride];
                self.strips
                    .fill(self.source, all, channel, rows.clone(), strip);
                let values = &*strip;
                let input = Pixels { values, stride };
                let ahead = self.next_strip(&rows, channels.end);
                for (pixel, group) in self.tiles(pixels, groups.clone(), channels.len() * stride) {
                    let row = (group - groups.start) * GROUP * pitch;
                    let sums = sums[row + pixel..row + GROUP * pitch].as_mut_ptr();
                    let ahead = ahead.filter(|_| group == groups.start);
                    // SAFETY: a group of sums has `GROUP` rows of whole tiles; strips have whole tiles, too, and the
                    // margins of every tap.
                    unsafe {
                        self.multiply(channels.clone(), (pixel, group), input, ahead, sums, pitch)
                    };
                }
                channel = channels.end;
                if channel >= all {
                    break;
                }
            }
            self.store(rows, groups, sums);
        })
    }

    /// The first pixel of every tile with every group of outputs. If the source has few `values`, they stay in the
    /// cache, and the tiles of one group follow each other, so that rows of results are written from left to right.
    /// Otherwise the groups of one tile follow each other.
    pub(super) fn tiles(
        &self,
        pixels: usize,
        groups: Range<usize>,
        values: usize,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (tile, count) = (self.isa.tile(), groups.len());
        let tiles = pixels / tile;
        (0..tiles * count).map(move |pass| {
            let (index, group) = match values <= MAX_CACHED_VALUES {
                true => (pass % tiles, pass / tiles),
                false => (pass / count, pass % count),
            };
            (index * tile, groups.start + group)
        })
    }

    /// The source of the strip that the same thread is likely to fill after the channels before `channel` of `rows`, if
    /// strips have the layout of the source: more channels of these rows, or the first ones of the rows after them.
    pub(super) fn next_strip(&self, rows: &Range<usize>, channel: usize) -> Option<Pixels<'_>> {
        let [h, w] = self.view.size;
        let all = self.weights.channels;
        let (row, channel) = match channel < all {
            true => (rows.start, channel),
            false => (rows.end, 0),
        };
        let at = ((row / h.max(1) * all + channel) * h + row % h.max(1)) * w;
        let values = self.source.get(at..).filter(|_| self.view.is_dense())?;
        let stride = h * w;
        Some(Pixels { values, stride })
    }

    /// Adds the products of `channels` and the weights for the tile at `(pixel, group)`, and loads that of `ahead`
    /// into the cache meanwhile.
    ///
    /// # Safety
    ///
    /// `sums` must be valid for `GROUP` rows of a tile at distances of `pitch`, and `input` for a tile at `pixel`,
    /// with the margins of every tap, in every channel.
    pub(super) unsafe fn multiply(
        &self,
        channels: Range<usize>,
        (pixel, group): (usize, usize),
        input: Pixels<'_>,
        ahead: Option<Pixels<'_>>,
        sums: *mut f32,
        pitch: usize,
    ) {
        let args = Product {
            weights: self.weights.panel(group, channels.start).as_ptr(),
            input: input.values[pixel.min(input.values.len())..].as_ptr(),
            channel_stride: input.stride,
            channels: channels.len(),
            offsets: &self.strips.offsets,
            sums,
            pitch,
            start: match channels.start {
                0 => self.start[group * GROUP..][..GROUP].as_ptr(),
                _ => std::ptr::null(),
            },
            ahead: ahead.map_or(std::ptr::null(), |ahead| {
                ahead.values.as_ptr().wrapping_add(pixel)
            }),
            ahead_stride: ahead.map_or(0, |ahead| ahead.stride),
        };
        // SAFETY: a panel holds the weights of the remaining channels, of which there are at least `channels.len()`;
        // the caller guarantees the rest.
        unsafe { self.isa.product(&args) }
    }
}
