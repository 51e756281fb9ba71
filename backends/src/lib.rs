//! Device selection: from the requested backend, the features of this build and the hardware of this machine.
#![warn(missing_docs)]
// A library prints nothing; and these panic where nobody reads.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
mod adapters;
#[cfg(feature = "comm")]
pub mod comm;
#[cfg(not(target_family = "wasm"))]
mod doctor;
pub mod failure;
mod precision;
#[cfg(any(feature = "cuda", test))]
mod toolchain;
#[cfg(not(target_family = "wasm"))]
mod tuning;
pub mod watchdog;

#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
pub use adapters::{Adapter, GraphicsApi, adapters};
#[cfg(not(target_family = "wasm"))]
pub use doctor::{BackendFacts, DeviceFacts, Diagnosis, SkippedAdapter, diagnose};
pub use precision::{Precision, PrecisionError, Resolved};
#[cfg(not(target_family = "wasm"))]
pub use tuning::{count_tuned_kernels, tuned_kernels};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The Burn backend that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// Rust on the CPU's cores (Burn's `flex`).
    Cpu,
    /// Any GPU through Vulkan, Metal, DirectX 12 or a browser's WebGPU.
    Wgpu,
    /// OpenGL, for machines without a driver of the APIs above: slow, and it can stall.
    WgpuGl,
    /// NVIDIA GPUs through CUDA.
    Cuda,
    /// CUDA where there is an NVIDIA GPU, else wgpu where there is a GPU, else the CPU.
    #[default]
    Auto,
}

impl BackendKind {
    /// All kinds by name, in the order of the help.
    pub const NAMES: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("cpu", Self::Cpu),
        ("wgpu", Self::Wgpu),
        ("wgpu-gl", Self::WgpuGl),
        ("cuda", Self::Cuda),
    ];
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES.into_iter().find(|(_, kind)| kind == self);
        f.write_str(named.map_or("auto", |(name, _)| name))
    }
}

impl FromStr for BackendKind {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        let named = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        named
            .map(|(_, kind)| kind)
            .ok_or_else(|| BackendError::Unknown(text.into()))
    }
}

/// Why a backend cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BackendError {
    /// No such name.
    #[error("there is no backend `{0}`; use auto, cpu, wgpu, wgpu-gl or cuda")]
    Unknown(String),
    /// Left out of this build.
    #[error("this build has no {0} backend; build again with `--features {1}`")]
    NotBuilt(BackendKind, &'static str),
    /// The machine has no device for it.
    #[error("no device for the {0} backend; {1}")]
    NoDevice(BackendKind, String),
    /// CUDA's driver, NVRTC or headers are missing or do not fit each other.
    #[error("there is an NVIDIA GPU, and the cuda backend cannot use it: {0}")]
    Toolchain(String),
    /// A setting in the environment that the device does not support.
    #[error("{0}")]
    Setting(String),
    /// The driver lists an adapter and does not open it.
    #[error("{adapter} cannot be opened: {reason}; update its driver or use --backend cpu")]
    CannotOpen {
        /// Name and API of the adapter.
        adapter: String,
        /// The driver's message.
        reason: String,
    },
}

/// A device that was found.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Never [`BackendKind::Auto`].
    pub kind: BackendKind,
    /// Name of the device, as its driver states it.
    pub name: String,
    /// Graphics API through which wgpu reaches it.
    pub api: Option<&'static str>,
    /// Whether a GPU API is rendered by the CPU. False for the CPU backend itself.
    pub is_software: bool,
    /// A reason to use another device.
    pub warning: Option<&'static str>,
    /// The device, without autodiff.
    pub device: Device,
}

impl Selected {
    fn new(kind: BackendKind, name: String, device: Device) -> Self {
        Self {
            kind,
            name,
            api: None,
            is_software: false,
            warning: None,
            device,
        }
    }
}

/// `wgpu (NVIDIA GeForce RTX 3090, Vulkan)`.
impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.kind, self.name)?;
        if let Some(api) = self.api {
            write!(f, ", {api}")?;
        }
        f.write_str(")")
    }
}

/// Finds the device for `kind`.
pub fn select(kind: BackendKind) -> Result<Selected, BackendError> {
    select_nth(kind, 0)
}

/// Finds the device for `kind` for the process `local_rank` of this machine: each process has an NVIDIA GPU
/// of its own; all share the CPU or the wgpu adapter.
pub fn select_nth(kind: BackendKind, local_rank: usize) -> Result<Selected, BackendError> {
    match kind {
        BackendKind::Cpu => cpu(),
        BackendKind::Wgpu | BackendKind::WgpuGl => wgpu(kind),
        BackendKind::Cuda => cuda(local_rank),
        BackendKind::Auto => cuda(local_rank)
            .or_else(|_| wgpu_gpu())
            .or_else(|_| cpu())
            .or_else(|_| wgpu(BackendKind::Wgpu)),
    }
}

#[cfg(feature = "flex")]
fn cpu() -> Result<Selected, BackendError> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let name = format!("{cores} cores");
    Ok(Selected::new(BackendKind::Cpu, name, Device::flex()))
}

#[cfg(not(feature = "flex"))]
fn cpu() -> Result<Selected, BackendError> {
    Err(BackendError::NotBuilt(BackendKind::Cpu, "flex"))
}

/// The best adapter, a software renderer if there is nothing else.
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
fn wgpu(kind: BackendKind) -> Result<Selected, BackendError> {
    adapters::open(kind)
}

/// The best adapter that is a GPU: a software renderer is slower than the CPU backend.
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
fn wgpu_gpu() -> Result<Selected, BackendError> {
    let adapter = adapters::preferred(BackendKind::Wgpu)?;
    if adapter.is_software {
        let reason = format!("{adapter} is a software renderer");
        return Err(BackendError::NoDevice(BackendKind::Wgpu, reason));
    }
    adapters::open(BackendKind::Wgpu)
}

/// Nothing can wait for the browser's adapter here.
#[cfg(all(feature = "wgpu", target_family = "wasm"))]
fn wgpu(kind: BackendKind) -> Result<Selected, BackendError> {
    let help = "in a browser open it with `Device::wgpu_options().init_async()`";
    Err(BackendError::NoDevice(kind, help.into()))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(kind: BackendKind) -> Result<Selected, BackendError> {
    Err(BackendError::NotBuilt(kind, "wgpu"))
}

#[cfg(any(not(feature = "wgpu"), target_family = "wasm"))]
fn wgpu_gpu() -> Result<Selected, BackendError> {
    wgpu(BackendKind::Wgpu)
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Selected, BackendError> {
    use burn::tensor::DeviceType;
    tuning::configure(false);
    let gpus = Device::enumerate(DeviceType::Cuda).len();
    if number >= gpus {
        let help = match gpus {
            0 => "it needs an NVIDIA GPU and its driver (see nvidia-smi)",
            _ => "there are more processes on this machine than GPUs (see nvidia-smi)",
        };
        return Err(BackendError::NoDevice(BackendKind::Cuda, help.into()));
    }
    let problem = match toolchain::find(number) {
        Ok(toolchain) => toolchain.problem(),
        Err(problem) => Some(problem),
    };
    if let Some(problem) = problem {
        return Err(BackendError::Toolchain(problem));
    }
    let device = Device::cuda(number);
    let name = device
        .identity()
        .map_or("unnamed GPU".into(), |identity| identity.name);
    Ok(Selected::new(BackendKind::Cuda, name, device))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_number: usize) -> Result<Selected, BackendError> {
    Err(BackendError::NotBuilt(BackendKind::Cuda, "cuda"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for (name, kind) in BackendKind::NAMES {
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(kind.to_string(), name);
        }
        assert!(
            "gpu"
                .parse::<BackendKind>()
                .unwrap_err()
                .to_string()
                .contains("wgpu")
        );
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_always_found() {
        assert_eq!(select(BackendKind::Cpu).unwrap().kind, BackendKind::Cpu);
        assert_ne!(select(BackendKind::Auto).unwrap().kind, BackendKind::Auto);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn the_error_of_a_missing_backend_names_its_feature() {
        let error = select(BackendKind::Cuda).unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
