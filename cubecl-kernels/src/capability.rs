//! Capabilities of devices.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::backend::cubecl::dtype_to_storage_type;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::Tensor;
use burn::tensor::{DType, Device};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use cubecl::{
    client::Client,
    ir::{ElemType, FloatKind},
};

/// Largest `k` of [`top_k_segments`](crate::top_k_segments), limited by sorting in the 16 KiB of shared memory that
/// every WebGPU device has.
pub const MAX_TOP_K: usize = 2048;

/// Whether `device` selects with GPU kernels, so that reading its tensors makes the host wait.
pub fn has_selection_kernels(device: &Device) -> bool {
    let device = device.clone().inner();
    match device.as_dispatch() {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        burn::backend::DispatchDevice::Cube(_) => true,
        _ => false,
    }
}

/// Whether `device` records launches as a graph that it can replay without the host: true for CUDA GPUs.
pub fn records_graphs(device: &Device) -> bool {
    let device = device.clone().inner();
    match device.as_dispatch() {
        #[cfg(feature = "cuda")]
        burn::backend::DispatchDevice::Cube(burn_cubecl::CubeDevice::Cuda(_)) => true,
        _ => false,
    }
}

/// Whether `tensor` is f32 on a GPU, without a graph, so that kernels without a gradient can read it.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn is_plain_gpu_f32<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    has_selection_kernels(&device) && !device.is_autodiff() && tensor.dtype() == DType::F32
}

/// Whether `device` can select numbers of boxes up to `limits` with [`top_k_segments`](crate::top_k_segments) and
/// [`nms_sorted`](crate::nms_sorted): a GPU up to [`MAX_TOP_K`], the CPU any number.
pub fn can_select(device: &Device, limits: &[usize]) -> bool {
    !has_selection_kernels(device) || limits.iter().all(|&limit| limit <= MAX_TOP_K)
}

/// Whether `device` runs the matrix product of `dtype` that CubeK prefers, without timing others: a GPU in a browser, where
/// timing is impossible, or a software renderer, which is a wgpu device at CubeCL's minimal level of tuning
/// (`mrcnn-backends` sets it). For large products a software renderer needs minutes to time all kernels; the preferred one
/// was the fastest for five of the six that took longest (benches/RESULTS.md, 2026-12-01).
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(unused_variables))]
pub(crate) fn has_preset_products(device: &Device, dtype: DType) -> bool {
    let device = device.clone().inner();
    match device.as_dispatch() {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        burn::backend::DispatchDevice::Cube(device) => products_are_preset(device, dtype),
        _ => false,
    }
}

/// See [`has_preset_products`]. CubeCL has one level per process.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn products_are_preset(device: &burn_cubecl::CubeDevice, dtype: DType) -> bool {
    use cubecl_runtime::config::autotune::AutotuneLevel;
    use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig};
    let is_wgpu = match device {
        #[cfg(feature = "wgpu")]
        burn_cubecl::CubeDevice::Wgpu(_) => true,
        _ => false,
    };
    let is_minimal = || {
        let config = CubeClRuntimeConfig::get();
        matches!(config.autotune.level, AutotuneLevel::Minimal)
    };
    let is_in_browser = cfg!(target_family = "wasm");
    is_wgpu && (is_in_browser || !has_matrix_units(&device.client(), dtype) && is_minimal())
}

/// Whether `device` can multiply matrices of `dtype` on matrix units; f32 is rounded to TF32 for them.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(unused_variables))]
pub(crate) fn multiplies_on_matrix_units(device: &Device, dtype: DType) -> bool {
    let device = device.clone().inner();
    match device.as_dispatch() {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        burn::backend::DispatchDevice::Cube(device) => has_matrix_units(&device.client(), dtype),
        _ => false,
    }
}

/// As [`multiplies_on_matrix_units`], for the device of `client`.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn has_matrix_units(client: &Client, dtype: DType) -> bool {
    let element = match dtype {
        DType::F32 => ElemType::Float(FloatKind::TF32),
        other => dtype_to_storage_type(other),
    };
    let matmul = &client.properties().features.matmul;
    let mut instructions = matmul.cmma.iter().chain(&matmul.mma);
    instructions.any(|instruction| instruction.a_type == element)
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use cubecl::throughput::{
        MemoryAccess, MemorySpec, ThroughputError, ThroughputKey, ThroughputMode, sweep_size,
    };

    /// CubeCL's tuning asks for these rates, and measuring them takes lavapipe 17 s or more.
    #[test]
    fn the_rates_of_a_software_renderer_are_not_measured() {
        let Some((selected, device)) = crate::test_gpu::open() else {
            return;
        };
        if !selected.is_software || !products_are_preset(&device, DType::F32) {
            eprintln!("SKIPPED: {selected} is tuned like a GPU");
            return;
        }
        let arithmetic = [DType::F32, DType::I32, DType::U32].map(|dtype| {
            let dtype = dtype_to_storage_type(dtype);
            ThroughputMode::ComputeDirect { dtype }
        });
        let accesses = [MemoryAccess::Copy, MemoryAccess::Read, MemoryAccess::Write];
        let memory = accesses.into_iter().flat_map(|access| {
            let sizes = [0, 300, 1 << 20, 1 << 30].map(sweep_size);
            sizes.map(|bytes| ThroughputMode::Memory(MemorySpec::new(access, bytes)))
        });
        let modes = arithmetic.into_iter().chain(memory);
        for mode in modes.chain([ThroughputMode::Launch]) {
            let measure = || Err(ThroughputError::Unsupported);
            let rate = device
                .client()
                .measure_throughput(ThroughputKey { mode }, measure);
            assert!(rate.is_ok(), "{mode:?} is measured");
        }
    }
}
