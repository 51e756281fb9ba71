//! Report of what this machine and this build support, what is selected and why, and what to install.

use crate::precision::architecture;
use crate::{BackendError, BackendKind, Precision, select};
use burn::tensor::{DType, Device};
use serde::Serialize;
use std::fmt;
use std::process::Command;

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
    /// Why it is not used, and how to use it.
    pub reason: String,
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
    /// Why it has no devices.
    pub missing: Option<String>,
}

/// The report of [`diagnose`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Every backend.
    pub backends: Vec<BackendFacts>,
    /// The backend that `--backend auto` selects.
    pub selected: Option<BackendKind>,
    /// Why it is selected.
    pub reason: String,
    /// NVIDIA GPUs as reported by the driver: name, driver version, memory.
    pub nvidia: Vec<String>,
    /// Advice that makes more devices available.
    pub advice: Vec<String>,
}

/// Examines every backend. Opens every device, which takes seconds.
pub fn diagnose() -> Diagnosis {
    let backends = vec![cuda(), wgpu(), cpu()];
    let nvidia = nvidia_gpus();
    let selected = select(BackendKind::Auto).ok().map(|selected| selected.kind);
    let reason = reason(selected, &backends);
    let mut advice = advice(&backends, &nvidia);
    if let Some(problem) = cuda_problem() {
        advice.retain(|line| line != NOTHING_MISSING);
        advice.insert(0, problem);
    }
    Diagnosis {
        backends,
        selected,
        reason,
        nvidia,
        advice,
    }
}

const DTYPES: [(&str, DType); 3] = [
    ("f32", DType::F32),
    ("f16", DType::F16),
    ("bf16", DType::BF16),
];

fn dtypes(device: &Device) -> Vec<&'static str> {
    let known = DTYPES.iter();
    known
        .filter(|(_, dtype)| device.supports_dtype(*dtype))
        .map(|(name, _)| *name)
        .collect()
}

/// Dtypes of the matrix units of an NVIDIA GPU, by the architecture in `ptx_sm90`.
fn matrix_units(target: &str) -> &'static str {
    match architecture(target) {
        Some(80..) => "matrix units for f16, bf16 and TF32 (f32 rounded to 11 bits)",
        Some(70..) => "matrix units for f16 only",
        _ => "no matrix units",
    }
}

/// The values of `--precision` that a device supports, and what `auto` selects and why.
fn precisions(device: &Device) -> (Vec<Precision>, String) {
    let auto = match Precision::Auto.resolve(device) {
        Ok(auto) => format!("{}: {}", auto.precision(), auto.reason()),
        Err(error) => error.to_string(),
    };
    (Precision::of(device), auto)
}

fn facts(kind: BackendKind, devices: Vec<DeviceFacts>) -> BackendFacts {
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

fn cpu() -> BackendFacts {
    let device = select(BackendKind::Cpu).ok().map(|selected| {
        let (precisions, auto_precision) = precisions(&selected.device);
        DeviceFacts {
            name: selected.name,
            api: None,
            driver: None,
            dtypes: dtypes(&selected.device),
            precisions,
            auto_precision,
            target: None,
            is_gpu: false,
        }
    });
    facts(BackendKind::Cpu, device.into_iter().collect())
}

/// The adapter that the backend opens, and why each other one is not used.
#[cfg(feature = "wgpu")]
fn wgpu() -> BackendFacts {
    let used = crate::adapters::preferred(BackendKind::Wgpu).ok();
    let selected = used.clone().zip(select(BackendKind::Wgpu).ok());
    let device = selected.map(|(adapter, selected)| {
        let (precisions, auto_precision) = precisions(&selected.device);
        let identity = selected.device.identity();
        DeviceFacts {
            name: selected.name,
            api: selected.api,
            driver: Some(adapter.driver),
            dtypes: dtypes(&selected.device),
            precisions,
            auto_precision,
            target: identity.map(|identity| identity.fingerprint),
            is_gpu: !selected.is_software,
        }
    });
    let others = crate::adapters().into_iter();
    let others = others.filter(|adapter| Some(adapter) != used.as_ref());
    let skipped = others.map(|adapter| SkippedAdapter {
        reason: skip_reason(&adapter, used.as_ref()),
        name: adapter.name,
        api: adapter.api.name(),
        driver: adapter.driver,
    });
    BackendFacts {
        skipped: skipped.collect(),
        ..facts(BackendKind::Wgpu, device.into_iter().collect())
    }
}

#[cfg(feature = "wgpu")]
fn skip_reason(adapter: &crate::Adapter, used: Option<&crate::Adapter>) -> String {
    use crate::GraphicsApi;
    let is_allowed = crate::adapters::apis(BackendKind::Wgpu).contains(&adapter.api);
    match used {
        _ if adapter.api == GraphicsApi::OpenGl && !is_allowed => {
            "OpenGL is slow and can stall; --backend wgpu-gl uses it anyway".into()
        }
        _ if !is_allowed => "WGPU_BACKEND excludes its API".into(),
        Some(used) if adapter.is_software && !used.is_software => {
            format!("it is a software renderer, and {used} is a GPU")
        }
        Some(used) if adapter.name == used.name => {
            format!("the same adapter is reached through {}", used.api)
        }
        Some(used) => format!(
            "{used} comes first; CUBECL_WGPU_DEFAULT_DEVICE (e.g. `IntegratedGpu(0)`) selects another"
        ),
        None => "it cannot be opened".into(),
    }
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> BackendFacts {
    facts(BackendKind::Wgpu, Vec::new())
}

#[cfg(feature = "cuda")]
fn cuda() -> BackendFacts {
    use burn::tensor::DeviceType;
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
fn cuda() -> BackendFacts {
    facts(BackendKind::Cuda, Vec::new())
}

/// Why no kernel can be compiled for the first GPU, and how to fix it. Compiles one, which takes half a second.
#[cfg(feature = "cuda")]
fn cuda_problem() -> Option<String> {
    use crate::toolchain::{compile, find};
    use burn::tensor::DeviceType;
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
fn cuda_problem() -> Option<String> {
    None
}

#[cfg(feature = "cuda")]
fn nvidia_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.lines().next().map(String::from)
}

/// The output of `nvidia-smi`; empty without a driver.
fn nvidia_gpus() -> Vec<String> {
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

fn reason(selected: Option<BackendKind>, backends: &[BackendFacts]) -> String {
    let has_card = |kind: BackendKind| {
        let of_kind = backends.iter().find(|backend| backend.kind == kind);
        of_kind.is_some_and(|backend| backend.devices.iter().any(|device| device.is_gpu))
    };
    let software = backends
        .iter()
        .any(|b| b.kind == BackendKind::Wgpu && !b.devices.is_empty());
    match selected {
        Some(BackendKind::Cuda) => "an NVIDIA GPU and its driver are available".into(),
        Some(BackendKind::Wgpu) if has_card(BackendKind::Wgpu) => {
            "there is no CUDA device, but wgpu has a GPU".into()
        }
        Some(BackendKind::Wgpu) => "this build has no CPU backend".into(),
        Some(_) if software => {
            "wgpu has only a software adapter, which is slower than the CPU itself".into()
        }
        Some(_) => "there is no GPU that this build can use".into(),
        None => "this build has no backend that works here".into(),
    }
}

/// The advice if there is no other.
const NOTHING_MISSING: &str = "nothing is missing";

fn advice(backends: &[BackendFacts], nvidia: &[String]) -> Vec<String> {
    let of = |kind: BackendKind| backends.iter().find(|backend| backend.kind == kind);
    let devices = |kind| of(kind).map_or(&[][..], |backend| &backend.devices);
    let mut advice = Vec::new();
    let no_cuda = devices(BackendKind::Cuda).is_empty();
    if !nvidia.is_empty() && no_cuda {
        advice.push(if cfg!(feature = "cuda") {
            "there is an NVIDIA GPU that CUDA cannot open: update the driver (nvidia-smi \
             names it) and install CUDA's run-time compiler (libnvrtc) and headers, see docs/cuda.md"
                .into()
        } else {
            "there is an NVIDIA GPU: build with `cargo build --release -p mrcnn-cli --features \
             cuda`, and install CUDA's run-time compiler (libnvrtc) and headers, see docs/cuda.md"
                .into()
        });
    }
    let wgpu = devices(BackendKind::Wgpu);
    if cfg!(feature = "wgpu") && wgpu.is_empty() {
        advice.push(
            "there is no adapter for wgpu: install the driver of your GPU with Vulkan (Debian: \
             apt-get install mesa-vulkan-drivers for AMD, Intel and a software adapter)"
                .into(),
        );
    }
    if !wgpu.is_empty() && wgpu.iter().all(|device| !device.is_gpu) {
        advice.push(
            "wgpu has only a software adapter: if there is a GPU, install its Vulkan driver".into(),
        );
    }
    if advice.is_empty() {
        advice.push(NOTHING_MISSING.into());
    }
    advice
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for backend in &self.backends {
            if let Some(missing) = &backend.missing {
                writeln!(f, "{:<8} {missing}", backend.kind.to_string())?;
            }
            for device in &backend.devices {
                let dtypes = device.dtypes.join(", ");
                let api = device.api.map_or(String::new(), |api| format!(" ({api})"));
                writeln!(
                    f,
                    "{:<8} {}{api}: {dtypes}",
                    backend.kind.to_string(),
                    device.name
                )?;
                let precisions: Vec<String> =
                    device.precisions.iter().map(Precision::to_string).collect();
                let precisions = format!(
                    "--precision {}; auto is {}",
                    precisions.join(", "),
                    device.auto_precision
                );
                let driver = device.driver.as_ref().map(|d| format!("driver: {d}"));
                let target = device.target.as_ref().map(|t| format!("kernels for: {t}"));
                let is_cuda = backend.kind == BackendKind::Cuda;
                let units = device
                    .target
                    .as_deref()
                    .filter(|_| is_cuda)
                    .map(matrix_units);
                for line in [Some(precisions), driver, target, units.map(String::from)]
                    .into_iter()
                    .flatten()
                {
                    writeln!(f, "         {line}")?;
                }
            }
            for adapter in &backend.skipped {
                writeln!(
                    f,
                    "{:<8} not used: {} ({}): {}",
                    backend.kind.to_string(),
                    adapter.name,
                    adapter.api,
                    adapter.reason
                )?;
            }
        }
        for gpu in &self.nvidia {
            writeln!(f, "NVIDIA   {gpu}")?;
        }
        let selected = self.selected.map_or("none".into(), |kind| kind.to_string());
        writeln!(f, "selected {selected}: {}", self.reason)?;
        for line in &self.advice {
            writeln!(f, "advice   {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
