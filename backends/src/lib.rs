//! Choosing a device: what was asked for, what this build can do, what this machine has.
#![warn(missing_docs)]
// A library prints nothing; and these panic where nobody reads.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(feature = "comm")]
pub mod comm;
#[cfg(not(target_family = "wasm"))]
mod doctor;
pub mod failure;
mod precision;

#[cfg(not(target_family = "wasm"))]
pub use doctor::{BackendFacts, DeviceFacts, Diagnosis, diagnose};
pub use precision::{Precision, PrecisionError, Resolved};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What runs the tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Plain Rust on the processor's cores (burn's `flex`).
    Cpu,
    /// Any GPU through WebGPU: Vulkan, Metal, DirectX 12.
    Wgpu,
    /// NVIDIA GPUs through CUDA.
    Cuda,
    /// CUDA where there is a card, else wgpu where there is one, else the processor.
    #[default]
    Auto,
}

impl BackendKind {
    /// All kinds by name, in the order of the help.
    pub const NAMES: [(&str, Self); 4] = [
        ("auto", Self::Auto),
        ("cpu", Self::Cpu),
        ("wgpu", Self::Wgpu),
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
    #[error("`{0}` is no backend; there are auto, cpu, wgpu and cuda")]
    Unknown(String),
    /// Left out of this build.
    #[error("this build has no {0} backend; build again with `--features {1}`")]
    NotBuilt(BackendKind, &'static str),
    /// The machine has no device for it.
    #[error("no device for the {0} backend; {1}")]
    NoDevice(BackendKind, &'static str),
}

/// A device that was found.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Never [`BackendKind::Auto`].
    pub kind: BackendKind,
    /// What the device calls itself.
    pub name: String,
    /// The device, without autodiff.
    pub device: Device,
}

/// Finds the device for `kind`.
pub fn select(kind: BackendKind) -> Result<Selected, BackendError> {
    select_nth(kind, 0)
}

/// Finds the device for `kind` of the process `local_rank` of this machine: each has a CUDA card of its
/// own, and what else there is they share.
pub fn select_nth(kind: BackendKind, local_rank: usize) -> Result<Selected, BackendError> {
    match kind {
        BackendKind::Cpu => cpu(),
        BackendKind::Wgpu => wgpu(),
        BackendKind::Cuda => cuda(local_rank),
        BackendKind::Auto => cuda(local_rank)
            .or_else(|_| wgpu_card())
            .or_else(|_| cpu())
            .or_else(|_| wgpu()),
    }
}

#[cfg(feature = "flex")]
fn cpu() -> Result<Selected, BackendError> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let name = format!("processor, {cores} cores");
    Ok(Selected {
        kind: BackendKind::Cpu,
        name,
        device: Device::flex(),
    })
}

#[cfg(not(feature = "flex"))]
fn cpu() -> Result<Selected, BackendError> {
    Err(BackendError::NotBuilt(BackendKind::Cpu, "flex"))
}

#[cfg(feature = "wgpu")]
mod webgpu {
    use super::*;
    use burn::tensor::{DeviceKind, DeviceType};

    const HELP: &str = "install a Vulkan driver (Debian: apt-get install mesa-vulkan-drivers) or \
                        take --backend cpu";

    /// The best adapter, a software one if there is nothing else.
    pub fn wgpu() -> Result<Selected, BackendError> {
        if Device::enumerate(DeviceType::Wgpu).is_empty() {
            return Err(BackendError::NoDevice(BackendKind::Wgpu, HELP));
        }
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        let name = device
            .identity()
            .map_or("unnamed adapter".into(), |identity| identity.name);
        Ok(Selected {
            kind: BackendKind::Wgpu,
            name,
            device,
        })
    }

    /// The best adapter that is a card: a software rasteriser is slower than the processor itself.
    pub fn wgpu_card() -> Result<Selected, BackendError> {
        let selected = wgpu()?;
        let is_card = selected
            .device
            .identity()
            .is_some_and(|i| i.physical.is_some());
        if is_card {
            Ok(selected)
        } else {
            Err(BackendError::NoDevice(BackendKind::Wgpu, HELP))
        }
    }
}
#[cfg(feature = "wgpu")]
use webgpu::{wgpu, wgpu_card};

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Selected, BackendError> {
    Err(BackendError::NotBuilt(BackendKind::Wgpu, "wgpu"))
}

#[cfg(not(feature = "wgpu"))]
use wgpu as wgpu_card;

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Selected, BackendError> {
    use burn::tensor::DeviceType;
    let cards = Device::enumerate(DeviceType::Cuda).len();
    if number >= cards {
        let help = match cards {
            0 => "it needs an NVIDIA card and its driver (see nvidia-smi)",
            _ => "there are more processes on this machine than cards (see nvidia-smi)",
        };
        return Err(BackendError::NoDevice(BackendKind::Cuda, help));
    }
    let device = Device::cuda(number);
    let name = device
        .identity()
        .map_or("unnamed card".into(), |identity| identity.name);
    Ok(Selected {
        kind: BackendKind::Cuda,
        name,
        device,
    })
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
    fn the_processor_is_always_there() {
        assert_eq!(select(BackendKind::Cpu).unwrap().kind, BackendKind::Cpu);
        assert_ne!(select(BackendKind::Auto).unwrap().kind, BackendKind::Auto);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_missing_backend_says_how_to_get_it() {
        let error = select(BackendKind::Cuda).unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
