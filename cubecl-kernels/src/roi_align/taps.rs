//! Cells and weights of a bin along one axis.

/// A cell along one axis and its weight in a bin.
pub type Tap = (usize, f32);

/// Cells and weights of each of `bins` bins of `[from, from + length)` along an axis of `size` cells; `sampling_ratio`,
/// `aligned` and `zero_padding` as in `RoiAlignParams`. Samples more than one cell outside the map count as zero.
pub fn axis_taps(
    from: f32,
    length: f32,
    bins: usize,
    size: usize,
    sampling_ratio: usize,
    aligned: bool,
    zero_padding: bool,
) -> Vec<Vec<Tap>> {
    let length = if aligned { length } else { length.max(1.0) };
    let bin = length / bins as f32;
    let samples = match sampling_ratio {
        0 => (bin.ceil().max(0.0) as usize).min(MAX_SAMPLES),
        ratio => ratio.min(MAX_SAMPLES),
    };
    (0..bins)
        .map(|index| {
            let mut taps: Vec<Tap> = Vec::with_capacity(4);
            let weight = 1.0 / samples as f32;
            for sample in 0..samples {
                let position =
                    from + index as f32 * bin + (sample as f32 + 0.5) * bin / samples as f32;
                add_sample(&mut taps, position, size, zero_padding, weight);
            }
            taps
        })
        .collect()
}

/// Maximum number of samples per bin and axis: no valid box is larger than its image, and an invalid one must not loop
/// forever in adaptive sampling.
pub(crate) const MAX_SAMPLES: usize = 1 << 14;

/// Boxes beyond this distance from the origin, in cells, pool zeros. No image is that large, and rounding would
/// determine the samples of such a box.
pub(super) const MAX_COORDINATE: f32 = 65536.0;

fn add_sample(taps: &mut Vec<Tap>, position: f32, size: usize, zero_padding: bool, weight: f32) {
    let is_near = position >= -1.0 && position <= size as f32;
    if !is_near || size == 0 {
        return;
    }
    let position = match zero_padding {
        true => position,
        false => position.clamp(0.0, (size - 1) as f32),
    };
    let low = position.floor();
    let fraction = position - low;
    for (cell, cell_weight) in [(low, 1.0 - fraction), (low + 1.0, fraction)] {
        // GPU kernels skip cells without weight, too.
        if cell_weight > 0.0 && cell >= 0.0 && cell < size as f32 {
            merge(taps, cell as usize, cell_weight * weight);
        }
    }
}

fn merge(taps: &mut Vec<Tap>, cell: usize, weight: f32) {
    match taps.iter_mut().rev().find(|(known, _)| *known == cell) {
        Some((_, sum)) => *sum += weight,
        None => taps.push((cell, weight)),
    }
}
