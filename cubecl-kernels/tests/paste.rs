//! Mask pasting on the wgpu adapter and on the CPU, compared with the float version pixel by pixel.

mod adapter;
mod random;

use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{PasteBatch, PasteWindow, paste_bits, paste_mask, paste_masks};
use random::Random;

const THRESHOLD: f32 = 0.5;

/// Tolerance around the threshold: a probability is a sum of four products, whose
/// weights come from positions of up to 30 cells, rounded three times.
const NEAR: f32 = 3.0 * 30.0 * f32::EPSILON;

/// The size of an image, and the box of a mask in it.
struct Place {
    width: usize,
    height: usize,
    bbox: [f32; 4],
}

/// Boxes inside, across and outside an image, without area, much larger than the image, inverted and invalid.
fn place(random: &mut Random) -> Place {
    let (width, height) = (
        random.pick(&[1, 2, 31, 32, 33, 90]),
        random.pick(&[1, 31, 32, 33, 64, 65, 100]),
    );
    let mut at = |limit: usize| random.between(-10.0, limit as f32 + 2.0);
    let [x, y, w, h] = [at(width), at(height), at(width).abs(), at(height).abs()];
    let bbox = match random.below(14) {
        0 => [x, y, x, y],
        1 => [x - 1e4, y - 1e3, x + 1e4, y + 1e5],
        2 => [-1e30, y, 1e30, y + h],
        3 => [x + w, y + h, x, y],
        4 => [x + 1e4, y, x + 1e4 + w, y + h],
        5 => {
            let mut bbox = [x, y, x + w, y + h];
            bbox[random.below(4)] = random.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
            bbox
        }
        6 => [0.0, 0.0, width as f32, height as f32],
        _ => [x, y, x + w, y + h],
    };
    Place {
        width,
        height,
        bbox,
    }
}

/// Probabilities of a mask, of one of several kinds.
fn mask(random: &mut Random, cells: usize) -> Vec<f32> {
    let kind = random.below(12);
    let cell = |random: &mut Random| match kind {
        0 => 1.0,
        1 => 0.0,
        2 => THRESHOLD,
        3 => random.pick(&[0.0, 1.0]),
        4 => random.pick(&[0.2, 0.7, f32::NAN]),
        _ => random.between(0.0, 1.0),
    };
    (0..cells).map(|_| cell(random)).collect()
}

/// The bits of each mask as a device pastes them, in batches of `words`.
fn pasted(
    masks: &[f32],
    side: usize,
    windows: &[PasteWindow],
    words: usize,
    device: &Device,
) -> Vec<Vec<u32>> {
    let shape = [windows.len(), side, side];
    let masks = Tensor::<3>::from_data(TensorData::new(masks.to_vec(), shape), device);
    let mut bits = vec![Vec::new(); windows.len()];
    for batch in PasteBatch::plan(windows, words) {
        let found = paste_masks(masks.clone(), &batch, THRESHOLD).into_data();
        let found: Vec<i32> = found.iter::<i32>().collect();
        assert_eq!(found.len(), batch.words());
        for (mask, words) in batch.parts(&found) {
            bits[mask].extend(words.iter().map(|&word| word as u32));
        }
    }
    bits
}

/// Asserts that the bits are those of the float version, except where rounding or a NaN nearby may change them.
fn check(place: &Place, side: usize, mask: &[f32], bits: &[u32], name: &str) {
    let Place {
        width,
        height,
        bbox,
    } = *place;
    let wanted = paste_mask(mask, side, bbox, width, height);
    let words = wanted.height.div_ceil(32);
    let near_nan = near_nan(place, side, mask);
    assert_eq!(bits.len(), wanted.width * words, "{name}: {bbox:?}");
    for (pixel, &probability) in wanted.probabilities.iter().enumerate() {
        let (row, column) = (pixel / wanted.width, pixel % wanted.width);
        let bit = bits[column * words + row / 32] >> (row % 32) & 1 == 1;
        assert!(
            bit == (probability > THRESHOLD)
                || (probability - THRESHOLD).abs() < NEAR
                || near_nan[pixel],
            "{name}: {bit} for {probability} at row {row}, column {column} of {bbox:?} in \
             {width}x{height}, {side} cells per side"
        );
    }
    // Rows after the last one are not pixels.
    if !wanted.height.is_multiple_of(32) {
        let last = bits.chunks(words.max(1)).filter_map(|column| column.last());
        assert!(last.fold(0, |all, &word| all | word) >> (wanted.height % 32) == 0);
    }
}

/// The pixels within a cell of a NaN. CUDA's fused multiply-add moves a position by one rounding:
/// beyond an integer it reads the neighboring cell, whose weight of zero turns NaN into NaN.
fn near_nan(place: &Place, side: usize, mask: &[f32]) -> Vec<bool> {
    let is_nan = |row: usize, column: usize| mask[row * side + column].is_nan();
    let near = |cell: usize| {
        let around = |at: usize| at.saturating_sub(1)..(at + 2).min(side);
        let mut cells =
            around(cell / side).flat_map(|row| around(cell % side).map(move |x| (row, x)));
        cells.any(|(row, column)| is_nan(row, column))
    };
    let spread: Vec<f32> = (0..side * side)
        .map(|cell| if near(cell) { f32::NAN } else { 0.0 })
        .collect();
    let pasted = paste_mask(&spread, side, place.bbox, place.width, place.height);
    pasted.probabilities.iter().map(|v| v.is_nan()).collect()
}

#[test]
fn ten_thousand_random_masks() {
    let adapter = adapter::adapter();
    let flex = Device::flex();
    let gpu = adapter
        .iter()
        .map(|adapter| (adapter.name, &adapter.device));
    let devices: Vec<_> = std::iter::once(("flex", &flex)).chain(gpu).collect();
    let mut solid = [0usize; 2];
    let done = random::cases("paste", 36, |random, round| {
        let side = [28, 28, 1, 2, 7, 14][round % 6];
        let count = [1, 255, 256, 257, 500, 1000][round / 6 % 6];
        // Sometimes several launches per round, with masks divided among them.
        let words = if round % 5 == 0 {
            3000
        } else {
            PasteBatch::WORDS
        };
        let places: Vec<Place> = (0..count).map(|_| place(random)).collect();
        let masks: Vec<f32> = (0..count).flat_map(|_| mask(random, side * side)).collect();
        let windows = places
            .iter()
            .map(|p| PasteWindow::new(p.bbox, side, p.width, p.height));
        let windows: Vec<PasteWindow> = windows.collect();
        for (name, device) in &devices {
            let found = pasted(&masks, side, &windows, words, device);
            for (index, bits) in found.iter().enumerate() {
                let mask = &masks[index * side * side..][..side * side];
                check(&places[index], side, mask, bits, name);
                if *name == "flex" {
                    assert_eq!(bits, &paste_bits(mask, &windows[index], THRESHOLD));
                    solid[usize::from(bits.iter().any(|&word| word != 0))] += 1;
                }
            }
        }
        count
    });
    println!("{} masks without and {} with pixels", solid[0], solid[1]);
    assert!(done < random::CASES || solid.iter().all(|&masks| masks > 1000));
}

/// A mask of 65,536 rows, one of 65,536 columns, and an image larger than a batch.
#[test]
fn large_images() {
    let adapter = adapter::adapter();
    let mut random = Random(3);
    let values: Vec<f32> = (0..3 * 28 * 28).map(|_| random.between(0.0, 1.0)).collect();
    let places = [
        ([1, 65_536], [-3.0, -5.0, 4.0, 66_000.0]),
        ([65_536, 2], [0.0, 0.0, 65_536.0, 2.0]),
        ([3000, 2000], [10.0, 10.0, 2990.0, 1990.0]),
    ];
    let places = places.map(|([width, height], bbox)| Place {
        width,
        height,
        bbox,
    });
    let windows = places
        .each_ref()
        .map(|p| PasteWindow::new(p.bbox, 28, p.width, p.height));
    let flex = Device::flex();
    let gpu = adapter
        .iter()
        .map(|adapter| (adapter.name, &adapter.device));
    for (name, device) in std::iter::once(("flex", &flex)).chain(gpu) {
        let found = pasted(&values, 28, &windows, 100_000, device);
        for (index, bits) in found.iter().enumerate() {
            let mask = &values[index * 784..][..784];
            check(&places[index], 28, mask, bits, name);
        }
    }
}
