//! Pasting on the devices of CubeCL: wgpu and CUDA.

use super::kernel::{UNITS, paste_words};
use super::{PasteOps, PasteSizes};
use crate::launch::{buffer, dense, empty};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use cubecl::prelude::*;

impl PasteOps for CubeBackend {
    fn paste_masks(
        masks: FloatTensor<Self>,
        table: IntTensor<Self>,
        sizes: PasteSizes,
    ) -> IntTensor<Self> {
        let [masks, table] = [masks, table].map(dense);
        let words = empty(&masks, [sizes.words], DType::I32);
        let (side, entries) = (masks.shape()[1], table.shape()[0]);
        let cubes = sizes.largest.div_ceil(UNITS as usize);
        // SAFETY: the buffers are dense, and the table of `PasteBatch` has indices of masks and words inside them.
        unsafe {
            paste_words::launch_unchecked(
                &masks.client,
                CubeCount::Static(cubes as u32, entries as u32, 1),
                CubeDim::new_1d(UNITS),
                buffer(&masks),
                buffer(&table),
                buffer(&words),
                sizes.threshold,
                side as u32,
            );
        }
        words
    }
}
