//! Sampling scores on the devices of CubeCL: wgpu and CUDA.

use super::SamplingOps;
use super::kernel::score_candidates;
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeBackend, kernel::into_contiguous, ops::numeric::empty_device_dtype};
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

impl SamplingOps for CubeBackend {
    fn sampling_scores(matches: IntTensor<Self>, seeds: IntTensor<Self>) -> FloatTensor<Self> {
        let [matches, seeds] = [matches, seeds].map(into_contiguous);
        let client = matches.client.clone();
        let [n, total] = [matches.shape()[0], matches.shape()[1]];
        let shape = Shape::new([n, 2 * total]);
        let scores = empty_device_dtype(client.clone(), matches.device.clone(), shape, DType::F32);
        let units = n * total;
        if units == 0 {
            return scores;
        }
        let cube_dim = CubeDim::new(&client, units);
        // SAFETY: the buffers are contiguous and of the shapes that the kernel is told.
        unsafe {
            score_candidates::launch_unchecked(
                &client,
                calculate_cube_count_elemwise(&client, units, cube_dim),
                cube_dim,
                matches.into_buffer_arg(),
                seeds.into_buffer_arg(),
                scores.clone().into_buffer_arg(),
                n as u32,
                total as u32,
            );
        }
        scores
    }
}
