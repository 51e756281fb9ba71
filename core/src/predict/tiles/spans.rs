//! Masks as spans of pixels, for parts of very large images.
//!
//! Pixels are numbered column by column, as in COCO's RLE.

use super::grid::Tile;
use vernier_mask::Rle;

/// The pixels of an object: ascending, separate ranges `[start, end)`, none of which goes beyond its column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<(u32, u32)>);

impl Spans {
    /// The mask of a tile in an image of `height` rows.
    pub fn of_tile(mask: &Rle, tile: Tile, height: u32) -> Self {
        let rows = mask.h.max(1);
        let mut spans = Vec::new();
        let mut at = 0;
        for (index, &run) in mask.counts.iter().enumerate() {
            let end = at + run;
            if index % 2 == 1 {
                while at < end {
                    let (column, row) = (at / rows, at % rows);
                    let length = (end - at).min(rows - row);
                    let start = (tile.x + column) * height + tile.y + row;
                    spans.push((start, start + length));
                    at += length;
                }
            }
            at = end;
        }
        Self(spans)
    }

    /// The mask of an image of `width x height` pixels.
    pub fn to_rle(&self, (width, height): (u32, u32)) -> Rle {
        let mut counts = Vec::with_capacity(2 * self.0.len() + 1);
        let (mut at, total) = (0, width * height);
        for &(start, end) in &self.0 {
            // A span that continues in the next column belongs to the same run.
            match counts.last_mut() {
                Some(last) if start == at => *last += end - start,
                _ => counts.extend([start - at, end - start]),
            }
            at = end;
        }
        match counts.is_empty() {
            true => Rle::empty(height, width),
            false => {
                if at < total {
                    counts.push(total - at);
                }
                Rle::from_counts(height, width, counts)
            }
        }
    }

    /// Number of pixels.
    pub fn area(&self) -> u64 {
        let lengths = self.0.iter().map(|(start, end)| u64::from(end - start));
        lengths.sum()
    }

    /// The pixels within a window.
    pub fn within(&self, window: Tile, height: u32) -> Self {
        let first = window.x * height;
        let last = first + window.width * height;
        let from = self.0.partition_point(|&(start, _)| start < first);
        let to = self.0.partition_point(|&(start, _)| start < last);
        let clipped = self.0[from..to].iter().filter_map(|&(start, end)| {
            let top = start / height * height + window.y;
            let (start, end) = (start.max(top), end.min(top + window.height));
            (start < end).then_some((start, end))
        });
        Self(clipped.collect())
    }

    /// Number of pixels that are in both.
    pub fn shared(&self, other: &Self) -> u64 {
        let (mut a, mut b, mut shared) = (0, 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(a), other.0.get(b)) {
            let length = one.1.min(two.1).saturating_sub(one.0.max(two.0));
            shared += u64::from(length);
            if one.1 <= two.1 {
                a += 1;
            } else {
                b += 1;
            }
        }
        shared
    }

    /// The pixels of either.
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(u32, u32)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match joined.last_mut() {
                // Spans that only touch may be of two columns, and stay separate.
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        Self(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Row-major cells, and the same as spans of the whole image.
    fn random(seed: u64, width: u32, height: u32) -> (Vec<u8>, Spans) {
        let stream = Stream::named("cells", seed);
        let count = u64::from(width * height);
        let cells: Vec<u8> = (0..count)
            .map(|index| u8::from(!stream.bits(index).is_multiple_of(3)))
            .collect();
        let spans = Spans::of_tile(&rle(&cells, width, height), whole(width, height), height);
        (cells, spans)
    }

    fn rle(cells: &[u8], width: u32, height: u32) -> Rle {
        let mut counts = vec![0];
        let mut value = 0;
        for index in 0..width * height {
            let (column, row) = (index / height, index % height);
            let next = cells[(row * width + column) as usize];
            if next != value {
                counts.push(0);
                value = next;
            }
            *counts.last_mut().expect("a run") += 1;
        }
        Rle::from_counts(height, width, counts)
    }

    fn whole(width: u32, height: u32) -> Tile {
        Tile {
            x: 0,
            y: 0,
            width,
            height,
        }
    }

    #[test]
    fn spans_are_the_cells() {
        for seed in 0..200 {
            let (width, height) = (1 + seed as u32 % 7, 1 + seed as u32 % 5);
            let (a, spans) = random(seed, width, height);
            let (b, other) = random(seed + 1000, width, height);
            let bytes = |spans: &Spans| spans.to_rle((width, height)).to_row_major_raster_bytes();
            let count = |cells: &[u8]| cells.iter().filter(|&&cell| cell == 1).count() as u64;
            assert_eq!(bytes(&spans), a);
            assert_eq!(spans.area(), count(&a));
            let both = |of: fn(u8, u8) -> u8| {
                a.iter()
                    .zip(&b)
                    .map(|(a, b)| of(*a, *b))
                    .collect::<Vec<u8>>()
            };
            assert_eq!(bytes(&spans.union(&other)), both(|a, b| a | b));
            assert_eq!(spans.shared(&other), count(&both(|a, b| a & b)));
            let window = Tile {
                x: width / 3,
                y: height / 2,
                width: width.div_ceil(2).min(width - width / 3),
                height: 1,
            };
            let inside = spans.within(window, height);
            let is_inside = |index: usize| {
                let (column, row) = (index as u32 % width, index as u32 / width);
                (window.x..window.x + window.width).contains(&column) && row == window.y
            };
            let wanted: Vec<u8> = (0..a.len())
                .map(|index| if is_inside(index) { a[index] } else { 0 })
                .collect();
            assert_eq!(bytes(&inside), wanted);
        }
    }
}
