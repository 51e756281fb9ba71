//! NVIDIA GPUs: devices, toolchain and driver.

use super::facts::{BackendFacts, facts};
#[cfg(feature = "cuda")]
use super::facts::{DeviceFacts, dtypes, precisions};
use crate::BackendKind;
#[cfg(feature = "cuda")]
use crate::select;
use std::process::Command;

#[cfg(feature = "cuda")]
pub(super) fn cuda() -> BackendFacts {
    use burn::tensor::{Device, DeviceType};
    let toolchain = crate::toolchain::find(0).ok();
    let driver = [nvidia_driver(), toolchain.map(|found| found.summary())];
    let driver = driver.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let driver = (!driver.is_empty()).then_some(driver);
    let describe = |device: Device| {
        let identity = device.identity();
        let (precisions, auto_precision) = precisions(&device);
        DeviceFacts {
            precisions,
            auto_precision,
            name: identity
                .as_ref()
                .map_or("unnamed".into(), |i| i.name.clone()),
            api: None,
            driver: driver.clone(),
            dtypes: dtypes(&device),
            target: identity.map(|i| i.fingerprint),
            is_gpu: true,
        }
    };
    // A device whose toolchain does not work panics when its dtypes are queried.
    let devices = match select(BackendKind::Cuda) {
        Ok(_) => Device::enumerate(DeviceType::Cuda).into_vec(),
        Err(_) => Vec::new(),
    };
    facts(
        BackendKind::Cuda,
        devices.into_iter().map(describe).collect(),
    )
}

#[cfg(not(feature = "cuda"))]
pub(super) fn cuda() -> BackendFacts {
    facts(BackendKind::Cuda, Vec::new())
}

/// The reason no kernel can be compiled for the first GPU, and the fix. Compiles one, which takes half a second.
#[cfg(feature = "cuda")]
pub(super) fn cuda_problem() -> Option<String> {
    use crate::toolchain::{compile, find};
    use burn::tensor::{Device, DeviceType};
    if Device::enumerate(DeviceType::Cuda).is_empty() {
        return None;
    }
    let toolchain = match find(0) {
        Ok(toolchain) => toolchain,
        Err(problem) => return Some(problem),
    };
    toolchain.problem().or_else(|| {
        let log = compile(&toolchain).err()?;
        Some(format!(
            "NVRTC cannot compile a kernel that includes cuda_fp16.h, mma.h and cuda/barrier; install \
             NVRTC and headers of one CUDA version (see docs/cuda.md). Its log: {log}"
        ))
    })
}

#[cfg(not(feature = "cuda"))]
pub(super) fn cuda_problem() -> Option<String> {
    None
}

#[cfg(feature = "cuda")]
fn nvidia_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.lines().next().map(String::from)
}

/// The output of `nvidia-smi`; empty without a driver.
pub(super) fn nvidia_gpus() -> Vec<String> {
    let query = [
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader",
    ];
    let output = Command::new("nvidia-smi").args(query).output();
    let Ok(output) = output else {
        return Vec::new();
    };
    if !output.status.success() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.trim().to_string()).collect()
}
