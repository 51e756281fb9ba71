//! Kernels on boxes: one unit per box.

use cubecl::prelude::*;

/// Multipliers of deltas.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct DeltaWeights {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

/// `objects`, `references [k, 4]`, `matched [k]` -> `deltas [k, 4]`, see [`fn@super::encode_boxes`].
#[cube(launch_unchecked)]
pub fn encode(
    objects: &[f32],
    references: &[f32],
    matched: &[i32],
    deltas: &mut [f32],
    weights: &DeltaWeights,
    units: u32,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let at = (unit * 4) as usize;
    if matched[unit as usize] < 0 {
        #[unroll]
        for i in 0..4usize {
            deltas[at + i] = 0.0f32;
        }
    } else {
        let width = references[at + 2] - references[at];
        let height = references[at + 3] - references[at + 1];
        let object_width = objects[at + 2] - objects[at];
        let object_height = objects[at + 3] - objects[at + 1];
        let x = references[at] + width * 0.5;
        let y = references[at + 1] + height * 0.5;
        let object_x = objects[at] + object_width * 0.5;
        let object_y = objects[at + 1] + object_height * 0.5;
        deltas[at] = (object_x - x) / width * weights.x;
        deltas[at + 1] = (object_y - y) / height * weights.y;
        deltas[at + 2] = (object_width / width).ln() * weights.width;
        deltas[at + 3] = (object_height / height).ln() * weights.height;
    }
}

/// `boxes [k, 4]` -> `rows [k, 6]`, see [`fn@super::roi_rows`]; `slots` is the number of boxes per image.
#[cube(launch_unchecked)]
pub fn rows(boxes: &[f32], rows: &mut [f32], min_sides: Sequence<f32>, slots: u32, units: u32) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let from = (unit * 4) as usize;
    let to = (unit * 6) as usize;
    let width = boxes[from + 2] - boxes[from];
    let height = boxes[from + 3] - boxes[from + 1];
    let side = (width * height).sqrt();
    let mut level = 0.0f32;
    let count = comptime![min_sides.len()];
    #[unroll]
    for i in 0..count {
        level += select(side >= *min_sides.index(i), 1.0f32, 0.0f32);
    }
    rows[to] = f32::cast_from(unit / slots);
    rows[to + 1] = level;
    #[unroll]
    for i in 0..4usize {
        rows[to + 2 + i] = boxes[from + i];
    }
}
