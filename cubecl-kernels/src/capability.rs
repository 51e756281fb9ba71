//! Capabilities of devices that decide between kernels and host versions.

use crate::top_k::MAX_TOP_K;
#[cfg(doc)]
use crate::{decode_boxes, nms_sorted, top_k_segments};
use burn::tensor::Device;

/// Whether `device` has [`top_k_segments`], [`nms_sorted`] and [`decode_boxes`] as GPU kernels. Otherwise boxes are
/// selected on host slices, without limits on their number.
pub fn has_selection_kernels(device: &Device) -> bool {
    let device = device.clone().inner();
    match device.as_dispatch() {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        burn::backend::DispatchDevice::Cube(_) => true,
        _ => false,
    }
}

/// Whether `device` can select numbers of boxes up to `limits` with the GPU kernels [`top_k_segments`], [`nms_sorted`]
/// and [`decode_boxes`], without a read. Otherwise boxes are selected on host slices, without limits on their number.
pub fn selects_on_device(device: &Device, limits: &[usize]) -> bool {
    let limits_fit = limits.iter().all(|limit| (1..=MAX_TOP_K).contains(limit));
    limits_fit && has_selection_kernels(device)
}
