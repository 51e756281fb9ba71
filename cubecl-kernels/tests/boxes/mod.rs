//! Random RoIs of every kind for RoIAlign, without those whose result depends on rounding.

use crate::random::Random;
use mrcnn_kernels::{PyramidLevel, RoiAlignParams};

/// P2 to P5 of an image of 104x168 pixels, or the first `count` of them.
pub fn levels(count: usize) -> Vec<PyramidLevel> {
    let mut offset = 0;
    [(26, 42, 4.0), (13, 21, 8.0), (7, 11, 16.0), (1, 6, 32.0)]
        .into_iter()
        .take(count)
        .map(|(height, width, stride): (usize, usize, f32)| {
            let level = PyramidLevel {
                height,
                width,
                offset,
                scale: stride.recip(),
            };
            offset += height * width;
            level
        })
        .collect()
}

/// Number of kinds of boxes in [`sample`]; those from `WILD` on are distant, invalid or of no image.
pub const KINDS: usize = 11;
pub const WILD: usize = 7;

/// A row `[image, level, x1, y1, x2, y2]` of the given kind.
fn sample(random: &mut Random, kind: usize, images: usize, levels: usize) -> [f32; 6] {
    let (x, y) = (random.between(-20.0, 180.0), random.between(-20.0, 120.0));
    let side = |random: &mut Random| random.between(1.0, 120.0);
    let (w, h) = (side(random), side(random));
    let mut row = [x, y, x + w, y + h];
    let (mut image, mut level) = (random.below(images) as f32, random.below(levels) as f32);
    match kind {
        0 | 1 => {}
        2 => row = row.map(f32::round),
        3 => row = [x, y, x + 0.1 * random.between(0.0, 1.0), y + 0.5],
        4 => row = [x, y, x, y],
        5 => row = [x + w, y + h, x, y],
        6 => row = row.map(|v| v + 500.0),
        7 => row = [-1.0, -1.0, 1.0, 1.0].map(|v| v * random.between(1e3, 1e5)),
        8 => row = row.map(|v| v * random.between(1e5, 1e36)),
        9 => {
            let broken = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3)];
            row[random.below(4)] = broken;
        }
        _ => {
            let broken = [-1.0, f32::NAN, f32::INFINITY, 1e20];
            let nowhere = |random: &mut Random, count: usize| match random.below(5) {
                4 => count as f32,
                kind => broken[kind],
            };
            match random.below(2) {
                0 => image = nowhere(random, images),
                _ => level = nowhere(random, levels),
            }
        }
    }
    [image, level, row[0], row[1], row[2], row[3]]
}

/// Rows of all kinds below `kinds` in turn, without those whose result depends on rounding.
pub fn rois(
    random: &mut Random,
    count: usize,
    images: usize,
    kinds: usize,
    params: &RoiAlignParams,
) -> Vec<f32> {
    let mut rows = Vec::with_capacity(6 * count);
    while rows.len() < 6 * count {
        let kind = rows.len() / 6 % kinds;
        let row = sample(random, kind, images, params.levels.len());
        if !depends_on_rounding(&row, params) {
            rows.extend(row);
        }
    }
    rows
}

/// The farthest corner of an RoI in cells, at least the size of the map; `None` if it has no level.
pub fn reach(row: &[f32; 6], params: &RoiAlignParams) -> Option<f32> {
    let level = params.levels.get(row[1] as usize)?;
    let size = level.height.max(level.width) as f32;
    Some(
        row[2..]
            .iter()
            .map(|v| (v * level.scale).abs())
            .fold(size, f32::max),
    )
}

/// Whether the last bit of a quotient decides if a sample counts (one cell outside the map), or how many samples an
/// adaptive bin has.
fn depends_on_rounding(row: &[f32; 6], params: &RoiAlignParams) -> bool {
    let Some(reach) = reach(row, params) else {
        return false;
    };
    if !row.iter().all(|v| v.is_finite()) || reach > 65535.0 {
        // Pools zeros, unless it is exactly at the limit.
        return (reach - 65536.0).abs() < 2.0;
    }
    let level = &params.levels[row[1] as usize];
    let slack = 1e-6 + 8.0 * f64::from(reach) * f64::from(f32::EPSILON);
    let shift = if params.aligned { 0.5 } else { 0.0 };
    let axis = |from: f32, to: f32, bins: usize, size: usize| {
        let [from, to] = [from, to].map(|v| f64::from(v * level.scale - shift));
        let length = if params.aligned {
            to - from
        } else {
            (to - from).max(1.0)
        };
        let bin = length / bins as f64;
        let off = (bin - bin.round()).abs();
        let samples = match params.sampling_ratio {
            0 if off > 0.0 && off < slack => return true,
            0 => (bin.ceil().max(0.0) as usize).min(1 << 14),
            ratio => ratio,
        };
        (0..bins * samples).any(|sample| {
            let position = from + (sample as f64 + 0.5) * bin / samples as f64;
            (position + 1.0).abs() < slack || (position - size as f64).abs() < slack
        })
    };
    axis(row[2], row[4], params.output[1], level.width)
        || axis(row[3], row[5], params.output[0], level.height)
}
