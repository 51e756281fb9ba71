//! Packing of weights in the order in which the forward kernel reads them.

use super::access::Four;
use super::tiling::Tiling;
use crate::launch::{buffer, empty};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Packs `weight [o, c, 3, 3]`, of any layout, densely as `[9, rows, pitch]` vectors of output
/// channels, padded with zeros, so that tiles are read without bounds checks.
///
/// `flip` rotates the window by 180 degrees, for the gradient of the input.
#[cube(launch_unchecked)]
pub fn pack<E: Float>(
    weight: &Tensor<E>,
    packed: &mut [Vector<E, Four>],
    rows: u32,
    pitch: u32,
    #[comptime] flip: bool,
    #[define(E)] _dtype: ElemType,
) {
    let vector = ABSOLUTE_POS_X;
    let row = ABSOLUTE_POS_Y;
    if vector < pitch && row < rows {
        let tap = CUBE_POS_Z as usize;
        let source = if flip { 8 - tap } else { tap };
        let offset = row as usize * weight.stride(1)
            + source / 3 * weight.stride(2)
            + source % 3 * weight.stride(3);
        let mut four = Vector::<E, Four>::new(E::from_int(0));
        #[unroll]
        for lane in 0..4usize {
            let output = vector as usize * 4 + lane;
            if output < weight.shape(0) && (row as usize) < weight.shape(1) {
                four.insert(lane, weight[offset + output * weight.stride(0)]);
            }
        }
        packed[((tap as u32 * rows + row) * pitch + vector) as usize] = four;
    }
}

/// `weight [o, c, 3, 3]` as `[9, c, o]`, both padded for the tiles.
pub fn packed(weight: CubeTensor, flip: bool, tiling: &Tiling) -> CubeTensor {
    let [o, c, ..] = weight.meta.shape().dims::<4>();
    let rows = c.next_multiple_of(4 * tiling.depth);
    let pitch = o.next_multiple_of(4 * tiling.outputs());
    let packed = empty(&weight, [9, rows, pitch], weight.dtype);
    let dtype = dtype_to_storage_type(weight.dtype);
    // SAFETY: the kernel checks its indices against both shapes.
    unsafe {
        pack::launch_unchecked(
            &packed.client,
            CubeCount::Static(pitch.div_ceil(64) as u32, rows.div_ceil(4) as u32, 9),
            CubeDim::new_2d(16, 4),
            weight.into_tensor_arg(),
            buffer(&packed),
            rows as u32,
            (pitch / 4) as u32,
            flip,
            dtype,
        )
    }
    packed
}
