//! Measured rates of a device: of a matrix product and of a copy.

use super::case::{KernelSpec, time};
use crate::benchmark::BenchmarkError;
use burn::tensor::{Device, Distribution, Tensor};
use mrcnn_kernels::has_selection_kernels;
use rayon::prelude::*;
use serde::Serialize;

/// Rates of a device, measured in one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Billions of floating-point operations per second of a square matrix product in the dtype of the run.
    pub gflop_per_second: f64,
    /// Billions of bytes per second that a copy of a large tensor reads and writes.
    pub gb_per_second: f64,
}

impl Rates {
    /// Measures both; the fastest sample counts.
    pub(super) fn measure(spec: &KernelSpec, device: &Device) -> Result<Self, BenchmarkError> {
        // A GPU needs a large product to be busy.
        let side = if has_selection_kernels(device) {
            4096
        } else {
            1536
        };
        let [a, b] = [0; 2].map(|_| {
            let shape = [side, side];
            Tensor::<2>::random(shape, Distribution::Default, device).cast(spec.dtype)
        });
        let product = time(spec, device, &|| Box::new(a.clone().matmul(b.clone())))?;
        drop((a, b));
        const LEN: usize = 32 << 20;
        let copy = if has_selection_kernels(device) {
            let from = Tensor::<1>::ones([LEN], device);
            time(spec, device, &|| Box::new(from.clone() + 1.0))?
        } else {
            // Burn's operations on the CPU use one thread.
            let from = vec![1.0f32; LEN];
            time(spec, device, &|| Box::new(parallel_copy(&from)))?
        };
        Ok(Self {
            gflop_per_second: 2.0 * (side as f64).powi(3) / (product.min * 1e6),
            gb_per_second: (2 * LEN * size_of::<f32>()) as f64 / (copy.min * 1e6),
        })
    }

    /// Milliseconds that the bytes or the operations take, whichever is more.
    pub fn floor_ms(&self, bytes: u64, flops: u64) -> f64 {
        let moved = bytes as f64 / (self.gb_per_second * 1e6);
        let computed = flops as f64 / (self.gflop_per_second * 1e6);
        moved.max(computed)
    }
}

/// A copy by all threads.
fn parallel_copy(from: &[f32]) -> Vec<f32> {
    let mut to = vec![0.0f32; from.len()];
    let part = from.len().div_ceil(rayon::current_num_threads()).max(1);
    let parts = to.par_chunks_mut(part).zip(from.par_chunks(part));
    parts.for_each(|(to, from)| to.copy_from_slice(from));
    to
}
