//! Pasting on the devices of CubeCL: wgpu and CUDA.

use super::kernel::{UNITS, paste_words};
use super::{PasteOps, PasteSizes};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_dtype};
use cubecl::prelude::*;

impl PasteOps for CubeBackend {
    fn paste_masks(
        masks: FloatTensor<Self>,
        table: IntTensor<Self>,
        sizes: PasteSizes,
    ) -> IntTensor<Self> {
        let (masks, table) = (into_contiguous(masks), into_contiguous(table));
        let client = masks.client.clone();
        let shape = Shape::new([sizes.words]);
        let words = empty_device_dtype(client.clone(), masks.device.clone(), shape, DType::I32);
        let (side, entries) = (masks.shape()[1], table.shape()[0]);
        let cubes = sizes.largest.div_ceil(UNITS as usize);
        // SAFETY: the buffers are contiguous; the table, as `PasteBatch` makes it, names masks and
        // words that are there.
        unsafe {
            paste_words::launch_unchecked(
                &client,
                CubeCount::Static(cubes as u32, entries as u32, 1),
                CubeDim::new_1d(UNITS),
                masks.into_buffer_arg(),
                table.into_buffer_arg(),
                words.clone().into_buffer_arg(),
                sizes.threshold,
                side as u32,
            );
        }
        words
    }
}
