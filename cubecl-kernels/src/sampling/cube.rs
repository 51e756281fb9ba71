//! Sampling scores on the devices of CubeCL: wgpu and CUDA.

use super::SamplingOps;
use super::kernel::score_candidates;
use crate::launch::{buffer, dense, elementwise, empty};
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;

impl SamplingOps for CubeBackend {
    fn sampling_scores(matches: IntTensor<Self>, seeds: IntTensor<Self>) -> FloatTensor<Self> {
        let [matches, seeds] = [matches, seeds].map(dense);
        let [n, total] = [matches.shape()[0], matches.shape()[1]];
        let scores = empty(&matches, [n, 2 * total], DType::F32);
        let units = n * total;
        if units == 0 {
            return scores;
        }
        let (cubes, cube) = elementwise(&matches, units);
        // SAFETY: the buffers are dense and of the shapes that the kernel is given.
        unsafe {
            score_candidates::launch_unchecked(
                &matches.client,
                cubes,
                cube,
                buffer(&matches),
                buffer(&seeds),
                buffer(&scores),
                n as u32,
                total as u32,
            );
        }
        scores
    }
}
