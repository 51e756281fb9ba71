//! Mask targets on the devices of CubeCL: wgpu and CUDA.

use super::MaskTargetOps;
use super::kernel::project_masks;
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_dtype};
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

impl MaskTargetOps for CubeBackend {
    fn mask_targets(
        rois: FloatTensor<Self>,
        matched: IntTensor<Self>,
        windows: IntTensor<Self>,
        words: IntTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self> {
        let rois = into_contiguous(rois);
        let [matched, windows, words] = [matched, windows, words].map(into_contiguous);
        let client = rois.client.clone();
        let [n, slots] = [rois.shape()[0], rois.shape()[1]];
        let masks = windows.shape()[1];
        let shape = Shape::new([n, slots, side * side]);
        let targets = empty_device_dtype(client.clone(), rois.device.clone(), shape, DType::F32);
        let units = n * slots * side * side;
        if units == 0 {
            return targets;
        }
        let cube_dim = CubeDim::new(&client, units);
        // SAFETY: the buffers are contiguous and of the shapes that the kernel is told; windows lie
        // within the words, as `BitMasks` makes them.
        unsafe {
            project_masks::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, units, cube_dim),
                cube_dim,
                rois.into_buffer_arg(),
                matched.into_buffer_arg(),
                windows.into_buffer_arg(),
                words.into_buffer_arg(),
                targets.clone().into_buffer_arg(),
                (n * slots) as u32,
                slots as u32,
                masks as u32,
                side as u32,
            );
        }
        targets
    }
}
