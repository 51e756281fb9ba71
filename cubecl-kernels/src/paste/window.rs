//! Windows of masks in their images, and batches of windows to paste.

use std::ops::Range;

/// Window of a mask in its image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PasteWindow {
    /// Left column and top row in pixels.
    pub origin: (usize, usize),
    /// Width and height in pixels; 0 if the box is outside the image.
    pub size: (usize, usize),
    /// Side of the mask in cells.
    side: usize,
    /// The box along x and y.
    pub(super) axes: [Axis; 2],
}

/// Sampling of the mask, with its border of one cell, along an axis of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// Pixels of the box that are before the window.
    skipped: u32,
    /// Cells per pixel.
    scale: f32,
}

/// Bound of coordinates: larger than any image, and the sum of two fits a word.
const FARTHEST: i64 = 1 << 30;

/// Numbers per entry of the table of a batch.
pub(super) const ENTRY: usize = 8;

/// Rows per word.
pub(super) const BITS: usize = 32;

/// Expands `[x1, y1, x2, y2]` about its center by `scale`, as torchvision's `expand_boxes`.
pub fn expand_box(bbox: [f32; 4], scale: f32) -> [f32; 4] {
    let half_width = (bbox[2] - bbox[0]) * 0.5 * scale;
    let half_height = (bbox[3] - bbox[1]) * 0.5 * scale;
    let center_x = (bbox[2] + bbox[0]) * 0.5;
    let center_y = (bbox[3] + bbox[1]) * 0.5;
    [
        center_x - half_width,
        center_y - half_height,
        center_x + half_width,
        center_y + half_height,
    ]
}

impl PasteWindow {
    /// The window of a mask of `side x side` cells that is pasted into `bbox` (pixels) of an image of `width x height`
    /// pixels.
    ///
    /// As torchvision's `paste_masks_in_image`: the mask is padded with one cell of zeros, and the box is expanded to
    /// match and truncated to integers.
    pub fn new(bbox: [f32; 4], side: usize, width: usize, height: usize) -> Self {
        let grown = expand_box(bbox, (side + 2) as f32 / side as f32);
        // Truncation towards zero; NaN becomes 0.
        let [x1, y1, x2, y2] = grown.map(|v| (v as i64).clamp(-FARTHEST, FARTHEST));
        let axis = |from: i64, to: i64, limit: usize| {
            let (first, end) = visible(from, to, limit);
            let length = (to - from + 1).max(1);
            let axis = Axis {
                skipped: (first as i64 - from).max(0) as u32,
                scale: (side + 2) as f32 / length as f32,
            };
            (first, end - first, axis)
        };
        let (x, width, columns) = axis(x1, x2, width);
        let (y, height, rows) = axis(y1, y2, height);
        let is_empty = width == 0 || height == 0;
        Self {
            origin: (x, y),
            size: if is_empty { (0, 0) } else { (width, height) },
            side,
            axes: [columns, rows],
        }
    }

    /// Words per column.
    pub(super) fn column_words(&self) -> usize {
        self.size.1.div_ceil(BITS)
    }

    pub(super) fn side(&self) -> usize {
        self.side
    }
}

/// The pixels `[from, to)` of an axis of the image that the inclusive range `low..=high` covers.
fn visible(low: i64, high: i64, limit: usize) -> (usize, usize) {
    let limit = limit as i64;
    let from = low.clamp(0, limit);
    let to = (high + 1).clamp(from, limit);
    (from as usize, to as usize)
}

/// Sample of a pixel along an axis of the mask: two neighboring cells of the padded mask and the weight of the second.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    pub low: usize,
    pub high: usize,
    pub fraction: f32,
}

impl Axis {
    /// Bilinear interpolation without aligned corners; `pixel` is a pixel of the window, `padded` the number of cells
    /// of the padded mask.
    pub fn tap(&self, pixel: usize, padded: usize) -> Tap {
        let target = (pixel as u32 + self.skipped) as f32;
        let position = ((target + 0.5) * self.scale - 0.5).max(0.0);
        let low = (position as usize).min(padded - 1);
        let high = (low + 1).min(padded - 1);
        let fraction = position - low as f32;
        Tap {
            low,
            high,
            fraction,
        }
    }
}

/// Columns of windows that are pasted together.
#[derive(Clone, Debug, PartialEq)]
pub struct PasteBatch {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
struct Part {
    mask: usize,
    window: PasteWindow,
    columns: Range<usize>,
    first_word: usize,
}

impl PasteBatch {
    /// Words per batch: 16 MiB on the device and to read, which is two whole masks of 60 megapixels.
    pub const WORDS: usize = 1 << 22;

    /// Entries per batch, limited by the cubes of a launch.
    const ENTRIES: usize = 1 << 15;

    /// Splits `windows`, one per mask, into batches of at most `words` words ([`Self::WORDS`] if that is
    /// less, because a launch cannot have many more cubes), or of one column if that is more. The columns of a mask are
    /// in order; a mask may be divided among several batches.
    pub fn plan(windows: &[PasteWindow], words: usize) -> Vec<Self> {
        let words = words.min(Self::WORDS);
        let mut batches = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let mut used = 0;
        for (mask, &window) in windows.iter().enumerate() {
            let (width, column) = (window.size.0, window.column_words());
            let mut from = 0;
            while from < width {
                let room = words.saturating_sub(used) / column;
                let is_full = room == 0 || parts.len() == Self::ENTRIES;
                if is_full && !parts.is_empty() {
                    let parts = std::mem::take(&mut parts);
                    batches.push(Self { parts });
                    used = 0;
                    continue;
                }
                let columns = from..width.min(from + room.max(1));
                from = columns.end;
                let first_word = used;
                used += columns.len() * column;
                parts.push(Part {
                    mask,
                    window,
                    columns,
                    first_word,
                });
            }
        }
        if !parts.is_empty() {
            batches.push(Self { parts });
        }
        batches
    }

    /// Number of entries, each a range of columns.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Number of words of all entries.
    pub fn words(&self) -> usize {
        self.parts.last().map_or(0, |part| part.words().end)
    }

    pub(super) fn largest(&self) -> usize {
        let words = self.parts.iter().map(|part| part.words().len());
        words.max().unwrap_or(0)
    }

    pub(super) fn side(&self) -> usize {
        self.parts.first().map_or(0, |part| part.window.side())
    }

    pub(super) fn masks_end(&self) -> usize {
        self.parts.last().map_or(0, |part| part.mask + 1)
    }

    /// The index of each part's mask, and the range of its columns in the `words` that [`super::paste_masks`]
    /// returned.
    ///
    /// # Panics
    ///
    /// If their number is not [`Self::words`].
    pub fn parts<'a>(&'a self, words: &'a [i32]) -> impl Iterator<Item = (usize, &'a [i32])> {
        assert_eq!(words.len(), self.words(), "the words of this batch");
        let of_part = |part: &'a Part| (part.mask, &words[part.words()]);
        self.parts.iter().map(of_part)
    }

    /// The table `[parts, 8]`: mask, first word, columns, rows, skipped columns and rows, bits of the two scales.
    pub(super) fn table(&self) -> Vec<i32> {
        let entry = |part: &Part| {
            let [x, y] = part.window.axes;
            let skipped = x.skipped + part.columns.start as u32;
            let numbers = [
                part.mask as u32,
                part.first_word as u32,
                part.columns.len() as u32,
                part.window.size.1 as u32,
                skipped,
                y.skipped,
                x.scale.to_bits(),
                y.scale.to_bits(),
            ];
            numbers.map(|number| number as i32)
        };
        self.parts.iter().flat_map(entry).collect()
    }
}

impl Part {
    fn words(&self) -> Range<usize> {
        let count = self.columns.len() * self.window.column_words();
        self.first_word..self.first_word + count
    }
}

#[cfg(feature = "flex")]
impl Axis {
    /// An axis of an entry of the table.
    pub fn of_entry(skipped: i32, scale: i32) -> Self {
        Self {
            skipped: skipped as u32,
            scale: f32::from_bits(scale as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PasteBatch, PasteWindow};

    #[test]
    fn batches_hold_every_column_once_and_no_more_than_their_words() {
        let boxes = [
            [0.0, 0.0, 90.0, 70.0],
            [-9.0, -9.0, -5.0, -5.0],
            [5.0, 5.0, 6.0, 40.0],
            [10.0, 60.0, 99.0, 99.0],
        ];
        let windows = boxes.map(|bbox| PasteWindow::new(bbox, 28, 100, 100));
        for words in [0, 1, 7, 64, 1000] {
            let mut columns = [0; 4];
            for batch in PasteBatch::plan(&windows, words) {
                assert!(batch.words() <= words.max(4), "{} words", batch.words());
                let values = vec![0; batch.words()];
                for (mask, words) in batch.parts(&values) {
                    columns[mask] += words.len() / windows[mask].column_words();
                }
            }
            assert_eq!(columns, windows.map(|window| window.size.0), "{words}");
        }
        assert!(PasteBatch::plan(&windows[1..2], 64).is_empty());
    }
}
