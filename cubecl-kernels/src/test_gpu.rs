//! The GPU of unit tests that launch kernels directly.

use burn::backend::DispatchDevice;
use burn_cubecl::CubeDevice;
use mrcnn_backends::{BackendKind, Selected, select};

/// The device that `MRCNN_TEST_BACKEND` names, CUDA or wgpu; `None`, with a message, where there is none.
pub fn open() -> Option<(Selected, CubeDevice)> {
    let kind = match std::env::var("MRCNN_TEST_BACKEND").as_deref() {
        Ok("cuda") => BackendKind::Cuda,
        _ => BackendKind::Wgpu,
    };
    let Ok(selected) = select(kind) else {
        eprintln!("SKIPPED: {kind} is missing");
        return None;
    };
    let DispatchDevice::Cube(device) = selected.device.as_dispatch() else {
        panic!("{kind} is a device of CubeCL");
    };
    let device = device.clone();
    Some((selected, device))
}
