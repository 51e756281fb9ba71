//! Kernels that prepare parameters: a unit per element, in the order of the result.

#![allow(
    clippy::manual_is_multiple_of,
    reason = "kernels have no `is_multiple_of`"
)]

use crate::multi_tensor::CubeRange;
use cubecl::prelude::*;

/// A parameter in a launch. Elements of the result `[o, cells, channels]` are those of `[o, channels, cells]`.
#[derive(CubeType, CubeLaunch)]
pub struct CastPart<E: Float> {
    pub weight: Box<[f32]>,
    pub result: Box<[E]>,
    pub range: CubeRange,
    pub channels: u32,
    pub cells: u32,
}

/// Index of the source of element `i` of the result.
#[cube]
fn source(i: u32, channels: u32, cells: u32) -> u32 {
    let per_output = channels * cells;
    let output = i / per_output;
    let rest = i % per_output;
    output * per_output + rest % channels * cells + rest / channels
}

/// See [`fn@super::cast_weights`].
#[cube(launch_unchecked)]
pub fn cast_step<E: Float>(parts: &mut Sequence<CastPart<E>>, #[define(E)] _dtype: ElemType) {
    let count = comptime![parts.len()];
    #[unroll]
    for place in 0..count {
        let part = parts.index_mut(place);
        if part.range.contains_this_cube() {
            let mut i = part.range.first();
            while i < part.range.length {
                let from = source(i, part.channels, part.cells);
                part.result[i as usize] = E::cast_from(part.weight[from as usize]);
                i += part.range.step();
            }
        }
    }
}

/// A convolution with its norm in a launch.
#[derive(CubeType, CubeLaunch)]
pub struct FoldPart<E: Float> {
    pub conv: CastPart<E>,
    pub weight: Box<[f32]>,
    pub bias: Box<[f32]>,
    pub mean: Box<[f32]>,
    pub var: Box<[f32]>,
    pub shift: Box<[E]>,
    pub scale: Box<[f32]>,
    pub epsilon: f32,
}

/// See [`fn@super::fold_norms`]. The unit of the first element of an output writes its shift and scale.
#[cube(launch_unchecked)]
pub fn fold_step<E: Float>(parts: &mut Sequence<FoldPart<E>>, #[define(E)] _dtype: ElemType) {
    let count = comptime![parts.len()];
    #[unroll]
    for place in 0..count {
        let part = parts.index_mut(place);
        if part.conv.range.contains_this_cube() {
            let per_output = part.conv.channels * part.conv.cells;
            let mut i = part.conv.range.first();
            while i < part.conv.range.length {
                let output = (i / per_output) as usize;
                let scale = part.weight[output] / (part.var[output] + part.epsilon).sqrt();
                let from = source(i, part.conv.channels, part.conv.cells);
                part.conv.result[i as usize] =
                    E::cast_from(part.conv.weight[from as usize] * scale);
                if i % per_output == 0 {
                    part.scale[output] = scale;
                    let shift = part.bias[output] - part.mean[output] * scale;
                    part.shift[output] = E::cast_from(shift);
                }
                i += part.conv.range.step();
            }
        }
    }
}

/// A gradient in a launch. Elements of the result `[o, channels, cells]` are those of `[o, cells, channels]`.
#[derive(CubeType, CubeLaunch)]
pub struct RestorePart<E: Float> {
    pub gradient: Box<[E]>,
    /// `[o]`; of any length if it is not read.
    pub scale: Box<[f32]>,
    pub result: Box<[f32]>,
    pub range: CubeRange,
    pub channels: u32,
    pub cells: u32,
    pub per_output: u32,
}

/// See [`fn@super::restore_gradients`].
#[cube(launch_unchecked)]
pub fn restore_step<E: Float>(
    parts: &mut Sequence<RestorePart<E>>,
    #[comptime] is_scaled: bool,
    #[define(E)] _dtype: ElemType,
) {
    let count = comptime![parts.len()];
    #[unroll]
    for place in 0..count {
        let part = parts.index_mut(place);
        if part.range.contains_this_cube() {
            let mut i = part.range.first();
            while i < part.range.length {
                let from = source(i, part.cells, part.channels);
                let mut value = f32::cast_from(part.gradient[from as usize]);
                if comptime![is_scaled] {
                    value *= part.scale[(i / part.per_output) as usize];
                }
                part.result[i as usize] = value;
                i += part.range.step();
            }
        }
    }
}
