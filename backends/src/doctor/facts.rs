//! Facts about backends and devices in the report.

use crate::{BackendError, BackendKind, Precision, select};
use burn::tensor::{DType, Device};
use serde::Serialize;

/// A device of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceFacts {
    /// Name, as the driver states it.
    pub name: String,
    /// Graphics API through which wgpu reaches it.
    pub api: Option<&'static str>,
    /// Driver and its version, if known.
    pub driver: Option<String>,
    /// Dtypes that tensors can have.
    pub dtypes: Vec<&'static str>,
    /// Values of `--precision` that it supports.
    pub precisions: Vec<Precision>,
    /// The precision that `--precision auto` selects, and why.
    pub auto_precision: String,
    /// Compilation target of its kernels, e.g. `ptx_sm90`.
    pub target: Option<String>,
    /// Whether it is a GPU; false for the CPU and for a software adapter.
    pub is_gpu: bool,
}

/// An adapter that the wgpu backend does not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedAdapter {
    /// Name, as the driver states it.
    pub name: String,
    /// Graphics API through which wgpu reaches it.
    pub api: &'static str,
    /// Driver and its version.
    pub driver: String,
    /// The reason it is not used, and the way to use it.
    pub reason: String,
    /// Whether this build cannot use it.
    pub is_refused: bool,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendFacts {
    /// Kind of the backend.
    pub kind: BackendKind,
    /// Its devices.
    pub devices: Vec<DeviceFacts>,
    /// Adapters that exist but are not used.
    pub skipped: Vec<SkippedAdapter>,
    /// The reason it has no devices.
    pub missing: Option<String>,
}

/// The report of [`diagnose`](super::diagnose).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Every backend.
    pub backends: Vec<BackendFacts>,
    /// The backend that `--backend auto` selects.
    pub selected: Option<BackendKind>,
    /// The reason it is selected.
    pub reason: String,
    /// NVIDIA GPUs as reported by the driver: name, driver version, memory.
    pub nvidia: Vec<String>,
    /// Advice that makes more devices available.
    pub advice: Vec<String>,
}

const DTYPES: [(&str, DType); 3] = [
    ("f32", DType::F32),
    ("f16", DType::F16),
    ("bf16", DType::BF16),
];

pub(super) fn dtypes(device: &Device) -> Vec<&'static str> {
    let known = DTYPES.iter();
    known
        .filter(|(_, dtype)| device.supports_dtype(*dtype))
        .map(|(name, _)| *name)
        .collect()
}

/// The values of `--precision` that a device supports, and what `auto` selects and why.
pub(super) fn precisions(device: &Device) -> (Vec<Precision>, String) {
    let auto = match Precision::Auto.resolve(device) {
        Ok(auto) => format!("{}: {}", auto.precision(), auto.reason()),
        Err(error) => error.to_string(),
    };
    (Precision::of(device), auto)
}

pub(super) fn facts(kind: BackendKind, devices: Vec<DeviceFacts>) -> BackendFacts {
    let missing = devices.is_empty().then(|| match select(kind) {
        Err(error) => error.to_string(),
        Ok(_) => BackendError::NoDevice(kind, "none is listed".into()).to_string(),
    });
    BackendFacts {
        kind,
        devices,
        skipped: Vec::new(),
        missing,
    }
}
