//! Box decoding on the devices of CubeCL: wgpu and CUDA.

use super::kernel::decode_slots;
use super::{BoxDecoding, DecodeOps};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_dtype};
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

impl DecodeOps for CubeBackend {
    fn decode_boxes(
        deltas: FloatTensor<Self>,
        references: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        indices: IntTensor<Self>,
        sizes: FloatTensor<Self>,
        params: BoxDecoding,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [deltas, references, scores, indices, sizes] =
            [deltas, references, scores, indices, sizes].map(into_contiguous);
        let client = scores.client.clone();
        let [pictures, slots] = [scores.shape()[0], scores.shape()[1]];
        let references_total = references.shape()[1];
        let is_shared = references.shape()[0] == 1;
        let empty =
            |shape| empty_device_dtype(client.clone(), scores.device.clone(), shape, DType::F32);
        let boxes = empty(Shape::new([pictures, slots, 4]));
        let kept = empty(scores.shape());
        let units = pictures * slots;
        if units == 0 {
            return (boxes, kept);
        }
        let cube_dim = CubeDim::new(&client, units);
        let deltas_total = deltas.shape()[1];
        let [wx, wy, ww, wh] = params.weights;
        // SAFETY: the buffers are contiguous and of the shapes that the kernel is told.
        unsafe {
            decode_slots::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, units, cube_dim),
                cube_dim,
                deltas.into_buffer_arg(),
                references.into_buffer_arg(),
                scores.into_buffer_arg(),
                indices.into_buffer_arg(),
                sizes.into_buffer_arg(),
                boxes.clone().into_buffer_arg(),
                kept.clone().into_buffer_arg(),
                pictures as u32,
                slots as u32,
                deltas_total as u32,
                references_total as u32,
                if is_shared {
                    0
                } else {
                    references_total as u32
                },
                wx,
                wy,
                ww,
                wh,
                params.max_log_scale,
                params.min_size,
            );
        }
        (boxes, kept)
    }
}
