//! Kernels of the updates: parameters are updated in place.

use crate::multi_tensor::CubeRange;
use cubecl::prelude::*;

/// A parameter of an update of SGD in a launch.
#[derive(CubeType, CubeLaunch)]
pub struct SgdPart {
    pub value: Box<[f32]>,
    pub gradient: Box<[f32]>,
    pub velocity: Box<[f32]>,
    pub range: CubeRange,
    pub decay: f32,
    pub scale: f32,
}

/// See [`fn@super::sgd`].
#[cube(launch_unchecked)]
pub fn sgd_step(parts: &mut Sequence<SgdPart>, rate: f32, momentum: f32) {
    let count = comptime![parts.len()];
    #[unroll]
    for place in 0..count {
        let part = parts.index_mut(place);
        if part.range.contains_this_cube() {
            let mut i = part.range.first();
            while i < part.range.length {
                let at = i as usize;
                let value = part.value[at];
                let gradient = part.gradient[at] * part.scale + value * part.decay;
                let velocity = part.velocity[at] * momentum + gradient;
                part.velocity[at] = velocity;
                part.value[at] = value - velocity * rate;
                i += part.range.step();
            }
        }
    }
}

/// A parameter of an update of AdamW in a launch.
#[derive(CubeType, CubeLaunch)]
pub struct AdamwPart {
    pub value: Box<[f32]>,
    pub gradient: Box<[f32]>,
    pub first: Box<[f32]>,
    pub second: Box<[f32]>,
    pub range: CubeRange,
    pub decay: f32,
    pub scale: f32,
}

/// Factors of an update of AdamW.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct AdamwRates {
    pub rate: f32,
    pub epsilon: f32,
    /// Fractions of the old means and of the new values.
    pub kept1: f32,
    pub added1: f32,
    pub kept2: f32,
    pub added2: f32,
    /// Divisors of the means.
    pub correction1: f32,
    pub correction2: f32,
}

/// See [`fn@super::adamw`].
#[cube(launch_unchecked)]
pub fn adamw_step(parts: &mut Sequence<AdamwPart>, rates: &AdamwRates) {
    let count = comptime![parts.len()];
    #[unroll]
    for place in 0..count {
        let part = parts.index_mut(place);
        if part.range.contains_this_cube() {
            let mut i = part.range.first();
            while i < part.range.length {
                let at = i as usize;
                let value = part.value[at];
                let gradient = part.gradient[at] * part.scale;
                let first = part.first[at] * rates.kept1 + gradient * rates.added1;
                let second = part.second[at] * rates.kept2 + gradient * gradient * rates.added2;
                part.first[at] = first;
                part.second[at] = second;
                let root = (second / rates.correction2).sqrt() + rates.epsilon;
                let delta = first / rates.correction1 / root + value * part.decay;
                part.value[at] = value - delta * rates.rate;
                i += part.range.step();
            }
        }
    }
}
