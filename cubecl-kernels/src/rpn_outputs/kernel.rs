//! Kernel of the predictions for every anchor: one unit per anchor.

use super::layout::OUTPUTS;
use crate::multi_tensor::CubeRange;
use cubecl::prelude::*;

/// Outputs per anchor.
const PER_ANCHOR: u32 = OUTPUTS as u32;

/// A level in a launch.
#[derive(CubeType, CubeLaunch)]
pub struct Level<E: Float> {
    /// `[n, cells, 5a]`.
    pub outputs: Box<[E]>,
    /// The anchors of all images.
    pub range: CubeRange,
    /// Number of anchors per image.
    pub anchors: u32,
    /// Index of the level's first anchor among those of an image.
    pub first: u32,
}

/// Writes `objectness [n, total]` and `deltas [n, total]`, a vector per anchor, see [`fn@super::flatten_rpn_outputs`].
/// Cells have `per_cell` anchors.
#[cube(launch_unchecked)]
pub fn flatten_levels<E: Float>(
    levels: Sequence<Level<E>>,
    objectness: &mut [f32],
    deltas: &mut [Vector<f32, Const<4>>],
    per_cell: u32,
    total: u32,
    #[define(E)] _dtype: ElemType,
) {
    let count = comptime![levels.len()];
    #[unroll]
    for place in 0..count {
        let level = levels.index(place);
        if level.range.contains_this_cube() {
            let mut i = level.range.first();
            while i < level.range.length {
                let cell = i / per_cell * (per_cell * PER_ANCHOR);
                let anchor = i % per_cell;
                let image = i / level.anchors;
                let to = (image * total + level.first + i % level.anchors) as usize;
                objectness[to] = f32::cast_from(level.outputs[(cell + anchor) as usize]);
                let from = (cell + per_cell + anchor * 4) as usize;
                let mut values = Vector::<f32, Const<4>>::empty();
                let corners = comptime![4usize];
                #[unroll]
                for lane in 0..corners {
                    values.insert(lane, f32::cast_from(level.outputs[from + lane]));
                }
                deltas[to] = values;
                i += level.range.step();
            }
        }
    }
}
