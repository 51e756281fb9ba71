//! Pasting of masks on the device, with run lengths computed from the bits.

use crate::boxes::Bbox;
use burn::tensor::{ExecutionError, Tensor};
use mrcnn_kernels::{PasteBatch, PasteWindow, paste_masks};
use vernier_mask::Rle;

/// Pastes the masks `[r, s, s]` (probabilities) into boxes and thresholds them.
///
/// `places` has, per mask, a box in pixels of its image and the image's height and width. Masks are pasted on the
/// device, and their bits are read once, or several times if they take more than 16 MiB. Fails if the device fails.
pub async fn paste_to_rle(
    masks: Tensor<3>,
    places: &[(Bbox, (u32, u32))],
    threshold: f32,
) -> Result<Vec<Rle>, ExecutionError> {
    let side = masks.dims()[1];
    let windows = places.iter().map(|&(bbox, (height, width))| {
        PasteWindow::new(bbox, side, width as usize, height as usize)
    });
    let windows: Vec<PasteWindow> = windows.collect();
    let runs = windows
        .iter()
        .zip(places)
        .map(|(&window, &(_, size))| MaskRuns::new(window, (size.0 as usize, size.1 as usize)));
    let mut runs: Vec<MaskRuns> = runs.collect();
    for batch in PasteBatch::plan(&windows, PasteBatch::WORDS) {
        let words = paste_masks(masks.clone(), &batch, threshold);
        let words = words.into_data_async().await?;
        let words: Vec<i32> = words.iter::<i32>().collect();
        for (mask, words) in batch.parts(&words) {
            runs[mask].add(words.iter().map(|&word| word as u32));
        }
    }
    Ok(runs.into_iter().map(MaskRuns::finish).collect())
}

/// Incremental run lengths of a mask, column by column as in COCO.
#[derive(Debug)]
pub struct MaskRuns {
    /// Height and width of the image.
    size: (usize, usize),
    window: PasteWindow,
    /// Number of columns of the window that were added.
    columns: usize,
    runs: Runs,
}

impl MaskRuns {
    /// An empty mask in `window` of an image of `size` `(height, width)`.
    pub fn new(window: PasteWindow, size: (usize, usize)) -> Self {
        Self {
            size,
            window,
            columns: 0,
            runs: Runs::default(),
        }
    }

    /// Adds the next columns of the window as bits, row by row; each column starts a new word, as in the output of
    /// `mrcnn_kernels::paste_bits` and `paste_masks`.
    pub fn add(&mut self, words: impl Iterator<Item = u32>) {
        let (height, rows) = (self.size.0, self.window.size.1);
        let (left, top) = self.window.origin;
        let column_words = rows.div_ceil(32).max(1);
        for (index, word) in words.enumerate() {
            let row = index % column_words * 32;
            if row == 0 {
                if self.columns == 0 {
                    self.runs.add(false, left * height);
                }
                self.columns += 1;
                self.runs.add(false, top);
            }
            self.runs.add_bits(word, (rows - row).min(32));
            if row + 32 >= rows {
                self.runs.add(false, height - top - rows);
            }
        }
    }

    /// The mask; columns that were not added are background.
    pub fn finish(mut self) -> Rle {
        let (height, width) = self.size;
        let done = match self.columns {
            0 => 0,
            columns => self.window.origin.0 + columns,
        };
        self.runs.add(false, (width - done) * height);
        self.runs.counts.push(self.runs.length);
        Rle::from_counts(height as u32, width as u32, self.runs.counts)
    }
}

/// Run lengths, starting with background.
#[derive(Debug, Default)]
struct Runs {
    counts: Vec<u32>,
    value: bool,
    length: u32,
}

impl Runs {
    fn add(&mut self, value: bool, cells: usize) {
        if cells == 0 {
            return;
        }
        if value != self.value {
            self.counts.push(std::mem::take(&mut self.length));
            self.value = value;
        }
        self.length += cells as u32;
    }

    /// Adds the lowest `count` bits.
    fn add_bits(&mut self, mut word: u32, count: usize) {
        let mut left = count as u32;
        while left > 0 {
            let value = word & 1 == 1;
            let equal = if value {
                word.trailing_ones()
            } else {
                word.trailing_zeros()
            };
            let run = equal.min(left);
            self.add(value, run as usize);
            word = word.checked_shr(run).unwrap_or(0);
            left -= run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mrcnn_kernels::paste_mask;

    /// Boxes inside, across and outside each border of an image.
    #[test]
    fn run_lengths_equal_those_of_the_whole_image() {
        let (height, width) = (75, 41);
        let mut areas = 0;
        for (left, top) in [
            (-30.0, -20.0),
            (0.0, 0.0),
            (3.5, 7.25),
            (30.0, 60.0),
            (90.0, 0.0),
        ] {
            for (w, h) in [(1.0, 1.0), (20.0, 33.0), (60.0, 90.0), (200.0, 200.0)] {
                let mask: Vec<f32> = (0..36u32)
                    .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0)
                    .collect();
                let bbox = [left, top, left + w, top + h];
                let pasted = paste_mask(&mask, 6, bbox, width, height);
                let mut whole = vec![0u8; height * width];
                for (i, &probability) in pasted.probabilities.iter().enumerate() {
                    let (row, column) = (i / pasted.width, i % pasted.width);
                    whole[(pasted.y + row) * width + pasted.x + column] =
                        u8::from(probability > 0.5);
                }
                let window = PasteWindow::new(bbox, 6, width, height);
                let bits = mrcnn_kernels::paste_bits(&mask, &window, 0.5);
                let mut runs = MaskRuns::new(window, (height, width));
                // In two calls, as for a large mask.
                let half = window.size.0 / 2 * window.size.1.div_ceil(32);
                runs.add(bits[..half].iter().copied());
                runs.add(bits[half..].iter().copied());
                let rle = runs.finish();
                assert_eq!(rle.counts.iter().sum::<u32>() as usize, height * width);
                assert_eq!(rle.to_row_major_raster_bytes(), whole, "{bbox:?}");
                areas += whole.iter().map(|&cell| usize::from(cell)).sum::<usize>();
            }
        }
        assert!(areas > 3000, "{areas}");
    }
}
