//! Mask pasting on host memory.

use super::window::{Axis, BITS, PasteWindow, Tap};
use std::ops::Range;

/// Probabilities of a pasted mask in its window of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct PastedMask {
    /// Left column of the window in pixels.
    pub x: usize,
    /// Top row of the window in pixels.
    pub y: usize,
    /// Width of the window in pixels; 0 if the box is outside the image.
    pub width: usize,
    /// Height of the window in pixels.
    pub height: usize,
    /// Probabilities `[height, width]`, row-major.
    pub probabilities: Vec<f32>,
}

/// Resizes the `size x size` probabilities `mask` (row-major) to `bbox` (pixels) and clips them to an image of
/// `image_width x image_height` pixels.
///
/// Follows torchvision's `paste_masks_in_image`: one pixel of zero padding, a box that is expanded to match and
/// truncated to integers, bilinear interpolation without aligned corners. Only the window inside the image is computed.
/// Predictions use [`paste_bits`].
///
/// # Panics
///
/// If the mask has another number of cells.
pub fn paste_mask(
    mask: &[f32],
    size: usize,
    bbox: [f32; 4],
    image_width: usize,
    image_height: usize,
) -> PastedMask {
    assert_eq!(
        mask.len(),
        size * size,
        "paste_mask: the mask must have {size} x {size} cells"
    );
    let window = PasteWindow::new(bbox, size, image_width, image_height);
    let (width, height) = window.size;
    let mut probabilities = vec![0.0; width * height];
    let [columns, rows] = window.axes;
    let rows = taps(rows, 0..height, size);
    let mut padded = vec![0.0; size + 2];
    for (x, column) in taps(columns, 0..width, size).into_iter().enumerate() {
        blend(mask, size, column, &mut padded);
        for (y, row) in rows.iter().enumerate() {
            probabilities[y * width + x] = between(&padded, row);
        }
    }
    PastedMask {
        x: window.origin.0,
        y: window.origin.1,
        width,
        height,
        probabilities,
    }
}

/// Bits of the pixels of `window` where the `side x side` probabilities `mask` (row-major), pasted as in
/// [`paste_mask`], are above `threshold`. Words have up to 32 rows of a column, lowest bit on top; each column starts a
/// new word.
///
/// # Panics
///
/// If the mask has another number of cells.
pub fn paste_bits(mask: &[f32], window: &PasteWindow, threshold: f32) -> Vec<u32> {
    let side = window.side();
    assert_eq!(
        mask.len(),
        side * side,
        "paste_bits: the mask must have {side} x {side} cells"
    );
    let (width, height) = window.size;
    let mut words = Vec::with_capacity(width * window.column_words());
    paste_columns(
        mask,
        side,
        window.axes,
        (0..width, height),
        threshold,
        &mut words,
    );
    words
}

/// Adds the words of columns with `rows` rows each.
fn paste_columns(
    mask: &[f32],
    side: usize,
    [column_axis, row_axis]: [Axis; 2],
    (columns, rows): (Range<usize>, usize),
    threshold: f32,
    words: &mut Vec<u32>,
) {
    let rows = taps(row_axis, 0..rows, side);
    let mut padded = vec![0.0; side + 2];
    for column in taps(column_axis, columns, side) {
        blend(mask, side, column, &mut padded);
        words.extend(rows.chunks(BITS).map(|rows| {
            let bits = rows.iter().enumerate();
            bits.fold(0, |word, (bit, row)| {
                word | u32::from(between(&padded, row) > threshold) << bit
            })
        }));
    }
}

fn taps(axis: Axis, pixels: Range<usize>, side: usize) -> Vec<Tap> {
    pixels.map(|pixel| axis.tap(pixel, side + 2)).collect()
}

/// The interpolated column of the padded mask at `tap`.
fn blend(mask: &[f32], side: usize, tap: Tap, padded: &mut [f32]) {
    let at = |row: usize, column: usize| {
        let inside = (1..=side).contains(&row) && (1..=side).contains(&column);
        if inside {
            mask[(row - 1) * side + column - 1]
        } else {
            0.0
        }
    };
    for (row, value) in padded.iter_mut().enumerate() {
        *value = at(row, tap.low) * (1.0 - tap.fraction) + at(row, tap.high) * tap.fraction;
    }
}

fn between(padded: &[f32], row: &Tap) -> f32 {
    padded[row.low] * (1.0 - row.fraction) + padded[row.high] * row.fraction
}

#[cfg(feature = "flex")]
mod flex {
    use super::paste_columns;
    use crate::flex::{floats, integers};
    use crate::paste::window::{Axis, ENTRY};
    use crate::paste::{PasteOps, PasteSizes};
    use burn::backend::Flex;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    impl PasteOps for Flex {
        fn paste_masks(
            masks: FloatTensor<Self>,
            table: IntTensor<Self>,
            sizes: PasteSizes,
        ) -> IntTensor<Self> {
            let [masks, table] = [masks, table].map(|tensor| tensor.to_contiguous());
            let side = masks.layout().shape()[1];
            let mut words = Vec::with_capacity(sizes.words);
            for entry in integers(&table).as_chunks::<ENTRY>().0 {
                let [mask, _, columns, rows] = [0, 1, 2, 3].map(|i| entry[i] as usize);
                let axes = [0, 1].map(|i| Axis::of_entry(entry[4 + i], entry[6 + i]));
                let mask = &floats(&masks)[mask * side * side..][..side * side];
                let window = (0..columns, rows);
                paste_columns(mask, side, axes, window, sizes.threshold, &mut words);
            }
            let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
            FlexTensor::from_data(TensorData::new(words, [sizes.words]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PasteWindow, paste_bits, paste_mask};

    #[test]
    fn a_full_mask_fills_its_box() {
        let pasted = paste_mask(&[1.0; 28 * 28], 28, [10.0, 20.0, 38.0, 48.0], 100, 100);
        let solid = pasted.probabilities.iter().filter(|&&p| p > 0.5).count();
        assert!((28 * 28..=30 * 30).contains(&solid), "{solid} pixels");
    }

    #[test]
    fn boxes_outside_or_broken_give_empty_windows() {
        for bbox in [[-50.0, -50.0, -40.0, -40.0], [200.0, 5.0, 230.0, 9.0]] {
            let pasted = paste_mask(&[1.0; 4], 2, bbox, 100, 100);
            assert!(pasted.probabilities.is_empty());
        }
        let broken = paste_mask(&[1.0; 4], 2, [f32::NAN; 4], 3, 3);
        assert!(broken.probabilities.len() <= 9);
        let huge = paste_mask(&[1.0; 4], 2, [-1e30, -1e30, 1e30, 1e30], 3, 3);
        assert_eq!(huge.probabilities.len(), 9);
    }

    #[test]
    fn bits_are_probabilities_above_the_threshold() {
        let mask: Vec<f32> = (0..49u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0)
            .collect();
        for bbox in [[-7.5, 3.0, 50.0, 90.0], [10.0, 10.0, 11.0, 11.0]] {
            let pasted = paste_mask(&mask, 7, bbox, 40, 80);
            let bits = paste_bits(&mask, &PasteWindow::new(bbox, 7, 40, 80), 0.5);
            let words = pasted.height.div_ceil(32);
            assert_eq!(bits.len(), pasted.width * words);
            for (i, &probability) in pasted.probabilities.iter().enumerate() {
                let (row, column) = (i / pasted.width, i % pasted.width);
                let bit = bits[column * words + row / 32] >> (row % 32) & 1;
                assert_eq!(bit == 1, probability > 0.5, "{row}, {column}");
            }
        }
    }
}
