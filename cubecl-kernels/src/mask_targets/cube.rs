//! Mask targets on the devices of CubeCL: wgpu and CUDA.

use super::MaskTargetOps;
use super::kernel::project_masks;
use crate::launch::{buffer, dense, elementwise, empty};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;

impl MaskTargetOps for CubeBackend {
    fn mask_targets(
        rois: FloatTensor<Self>,
        matched: IntTensor<Self>,
        windows: IntTensor<Self>,
        words: IntTensor<Self>,
        side: usize,
    ) -> FloatTensor<Self> {
        let [rois, matched, windows, words] = [rois, matched, windows, words].map(dense);
        let [n, slots] = [rois.shape()[0], rois.shape()[1]];
        let masks = windows.shape()[1];
        let targets = empty(&rois, [n, slots, side * side], DType::F32);
        let units = n * slots * side * side;
        if units == 0 {
            return targets;
        }
        let (cubes, cube) = elementwise(&rois, units);
        // SAFETY: the buffers are dense and of the shapes that the kernel is given; the windows
        // of `BitMasks` are inside the words.
        unsafe {
            project_masks::launch_unchecked(
                &rois.client,
                cubes,
                cube,
                buffer(&rois),
                buffer(&matched),
                buffer(&windows),
                buffer(&words),
                buffer(&targets),
                (n * slots) as u32,
                slots as u32,
                masks as u32,
                side as u32,
            );
        }
        targets
    }
}
