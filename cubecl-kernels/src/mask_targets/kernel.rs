//! Kernel of mask targets, with one unit per cell of a target.

use crate::roi_align::taps::MAX_SAMPLES;
use cubecl::prelude::*;

/// Window of a mask: its position in the words and in the image.
#[derive(CubeType, Clone, Copy)]
struct Window {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    first: u32,
}

/// A sample on one axis: two neighboring cells, the fraction of the second, and a weight of 0 for samples outside the
/// image, otherwise 1.
#[derive(CubeType, Clone, Copy)]
struct Sample {
    low: u32,
    high: u32,
    fraction: f32,
    weight: f32,
}

/// `rois [n, slots, 4]`, `matched [n, slots]`, `windows [n, masks, 7]` -> `targets [n, slots, side^2]`.
#[cube(launch_unchecked)]
pub fn project_masks(
    rois: &[f32],
    matched: &[i32],
    windows: &[u32],
    words: &[u32],
    targets: &mut [f32],
    roi_count: u32,
    slots: u32,
    masks: u32,
    #[comptime] side: u32,
) {
    let cell = ABSOLUTE_POS as u32;
    if cell >= roi_count * comptime!(side * side) {
        terminate!();
    }
    let roi = cell / comptime!(side * side);
    let row = cell % comptime!(side * side) / side;
    let column = cell % side;
    let mask = matched[roi as usize];
    let mut sum = 0.0f32;
    if mask >= 0 {
        let mask = u32::cast_from(mask);
        let w = ((roi / slots * masks + mask) * 7) as usize;
        let window = Window {
            x: windows[w],
            y: windows[w + 1],
            width: windows[w + 2],
            height: windows[w + 3],
            first: windows[w + 6],
        };
        let r = (roi * 4) as usize;
        let bin_width = max(rois[r + 2] - rois[r], 1.0f32) / comptime!(side as f32);
        let bin_height = max(rois[r + 3] - rois[r + 1], 1.0f32) / comptime!(side as f32);
        let across = min(bin_width.ceil() as u32, comptime!(MAX_SAMPLES as u32));
        let down = min(bin_height.ceil() as u32, comptime!(MAX_SAMPLES as u32));
        let left = rois[r] + f32::cast_from(column) * bin_width;
        let top = rois[r + 1] + f32::cast_from(row) * bin_height;
        for i in 0..down {
            let y = sample(top, bin_height, i, down, windows[w + 5]);
            let mut line = 0.0f32;
            for j in 0..across {
                let x = sample(left, bin_width, j, across, windows[w + 4]);
                let upper = bit(words, &window, y.low, x.low) * (1.0f32 - x.fraction)
                    + bit(words, &window, y.low, x.high) * x.fraction;
                let lower = bit(words, &window, y.high, x.low) * (1.0f32 - x.fraction)
                    + bit(words, &window, y.high, x.high) * x.fraction;
                line += (upper * (1.0f32 - y.fraction) + lower * y.fraction) * x.weight;
            }
            sum += line * y.weight;
        }
        sum = sum / f32::cast_from(across) / f32::cast_from(down);
    }
    targets[cell as usize] = sum;
}

/// Sample `index` of `count` in the bin that starts at `from`, on an axis of `size` pixels.
#[cube]
fn sample(from: f32, bin: f32, index: u32, count: u32, size: u32) -> Sample {
    let step = (f32::cast_from(index) + 0.5f32) * bin / f32::cast_from(count);
    let position = from + step;
    let inside = position + 1.0f32 >= 0.0f32 && position <= f32::cast_from(size);
    let clamped = clamp(position, 0.0f32, f32::cast_from(size - 1));
    let low = clamped as u32;
    Sample {
        low,
        high: min(low + 1, size - 1),
        fraction: clamped - f32::cast_from(low),
        weight: select(inside, 1.0f32, 0.0f32),
    }
}

/// The mask at a pixel of the image; zero outside its window.
#[cube]
fn bit(words: &[u32], window: &Window, row: u32, column: u32) -> f32 {
    // Coordinates above and left of the window wrap to large values.
    let y = row - window.y;
    let x = column - window.x;
    let mut value = 0.0f32;
    if y < window.height && x < window.width {
        let word = words[(window.first + y * window.width.div_ceil(32) + x / 32) as usize];
        value = f32::cast_from((word >> (x % 32)) & 1);
    }
    value
}
