//! Kinds of backends, the selected device, and errors of the selection.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A Burn backend.
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
    /// CUDA if there is an NVIDIA GPU, otherwise wgpu if there is a GPU, otherwise the CPU.
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

/// An error of the selection of a backend.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BackendError {
    /// The name does not exist.
    #[error("there is no backend `{0}`; use auto, cpu, wgpu, wgpu-gl or cuda")]
    Unknown(String),
    /// It is not part of this build.
    #[error("this build has no {0} backend; build again with `--features {1}`")]
    NotBuilt(BackendKind, &'static str),
    /// The machine has no device for it.
    #[error("no device for the {0} backend; {1}")]
    NoDevice(BackendKind, String),
    /// CUDA's driver, NVRTC or headers are missing or do not match each other.
    #[error("there is an NVIDIA GPU, but the cuda backend cannot use it: {0}")]
    Toolchain(String),
    /// A setting in the environment that the device does not support.
    #[error("{0}")]
    Setting(String),
    /// This build cannot use the adapter.
    #[error("{adapter} cannot be used: {reason}")]
    Refused {
        /// Name and API of the adapter.
        adapter: String,
        /// The reason, and what to use.
        reason: &'static str,
    },
    /// The driver lists an adapter but cannot open it.
    #[error("{adapter} cannot be opened: {reason}; update its driver or use --backend cpu")]
    CannotOpen {
        /// Name and API of the adapter.
        adapter: String,
        /// The driver's message.
        reason: String,
    },
}

/// A selected device.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Kind of the backend, never [`BackendKind::Auto`].
    pub kind: BackendKind,
    /// Name of the device, as its driver states it.
    pub name: String,
    /// Graphics API through which wgpu reaches it.
    pub api: Option<&'static str>,
    /// Whether the CPU renders through a GPU API. False for the CPU backend itself.
    pub is_software: bool,
    /// A reason to use another device.
    pub warning: Option<&'static str>,
    /// The device, without autodiff.
    pub device: Device,
}

impl Selected {
    // For the CPU and CUDA; devices of wgpu are created with more fields.
    #[cfg_attr(not(any(feature = "flex", feature = "cuda")), allow(dead_code))]
    pub(crate) fn new(kind: BackendKind, name: String, device: Device) -> Self {
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
