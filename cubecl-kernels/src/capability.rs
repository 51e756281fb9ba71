//! Capabilities of devices.

use burn::tensor::Device;

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

/// Whether `device` can select numbers of boxes up to `limits` with [`top_k_segments`](crate::top_k_segments) and
/// [`nms_sorted`](crate::nms_sorted): a GPU up to [`MAX_TOP_K`], the CPU any number.
pub fn can_select(device: &Device, limits: &[usize]) -> bool {
    !has_selection_kernels(device) || limits.iter().all(|&limit| limit <= MAX_TOP_K)
}
