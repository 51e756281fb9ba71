//! The sum over the units of a cube.

use crate::launch::UNITS;
use cubecl::prelude::*;

/// The sum of `own` over the [`UNITS`] units of a cube, added in a fixed order and returned to all of them. Every unit
/// must call it.
#[cube]
pub(crate) fn cube_sum(own: f32) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(UNITS as usize);
    shared[UNIT_POS as usize] = own;
    sync_cube();
    let mut half = (UNITS / 2).runtime();
    while half > 0 {
        if UNIT_POS < half {
            let other = shared[(UNIT_POS + half) as usize];
            shared[UNIT_POS as usize] += other;
        }
        sync_cube();
        half /= 2;
    }
    shared[0]
}
