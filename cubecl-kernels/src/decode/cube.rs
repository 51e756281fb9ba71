//! Box decoding on the devices of CubeCL: wgpu and CUDA.

use super::kernel::{DecodingLaunch, decode_slots};
use super::{BoxDecoding, DecodeOps};
use crate::launch::{buffer, dense, elementwise, empty};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;

impl DecodeOps for CubeBackend {
    fn decode_boxes(
        deltas: FloatTensor<Self>,
        references: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        indices: IntTensor<Self>,
        sizes: FloatTensor<Self>,
        params: BoxDecoding,
        has_logits: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [deltas, references, scores, indices, sizes] =
            [deltas, references, scores, indices, sizes].map(dense);
        let [images, slots] = [scores.shape()[0], scores.shape()[1]];
        let [reference_sets, references_total] = [references.shape()[0], references.shape()[1]];
        let boxes = empty(&scores, [images, slots, 4], DType::F32);
        let kept = empty(&scores, [images, slots], DType::F32);
        let units = images * slots;
        if units == 0 {
            return (boxes, kept);
        }
        let (cubes, cube) = elementwise(&scores, units);
        let [weight_x, weight_y, weight_width, weight_height] = params.weights;
        let decoding = DecodingLaunch {
            images: images as u32,
            slots: slots as u32,
            deltas_total: deltas.shape()[1] as u32,
            references_total: references_total as u32,
            references_stride: if reference_sets == 1 {
                0
            } else {
                references_total as u32
            },
            weight_x,
            weight_y,
            weight_width,
            weight_height,
            max_log_scale: params.max_log_scale,
            min_size: params.min_size,
        };
        // SAFETY: the buffers are dense and of the shapes in `decoding`.
        unsafe {
            decode_slots::launch_unchecked(
                &scores.client,
                cubes,
                cube,
                buffer(&deltas),
                buffer(&references),
                buffer(&scores),
                buffer(&indices),
                buffer(&sizes),
                buffer(&boxes),
                buffer(&kept),
                decoding,
                has_logits,
            );
        }
        (boxes, kept)
    }
}
