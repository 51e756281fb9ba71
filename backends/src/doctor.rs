//! Report of what this machine and this build support, what is selected and why, and what to install.

mod cuda;
mod display;
mod facts;

pub use facts::{BackendFacts, DeviceFacts, Diagnosis, SkippedAdapter};

use crate::{BackendKind, select};
use cuda::{cuda, cuda_problem, nvidia_gpus};
use facts::{dtypes, facts, precisions};

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
        is_refused: adapter.refusal.is_some() && is_allowed(&adapter),
        name: adapter.name,
        api: adapter.api.name(),
        driver: adapter.driver,
    });
    BackendFacts {
        skipped: skipped.collect(),
        ..facts(BackendKind::Wgpu, device.into_iter().collect())
    }
}

/// Whether `WGPU_BACKEND` and the default allow its API.
#[cfg(feature = "wgpu")]
fn is_allowed(adapter: &crate::Adapter) -> bool {
    crate::adapters::apis(BackendKind::Wgpu).contains(&adapter.api)
}

#[cfg(feature = "wgpu")]
fn skip_reason(adapter: &crate::Adapter, used: Option<&crate::Adapter>) -> String {
    use crate::GraphicsApi;
    let is_allowed = is_allowed(adapter);
    if let Some(reason) = adapter.refusal.filter(|_| is_allowed) {
        return reason.into();
    }
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

fn reason(selected: Option<BackendKind>, backends: &[BackendFacts]) -> String {
    let has_gpu = |kind: BackendKind| {
        let of_kind = backends.iter().find(|backend| backend.kind == kind);
        of_kind.is_some_and(|backend| backend.devices.iter().any(|device| device.is_gpu))
    };
    let software = backends
        .iter()
        .any(|b| b.kind == BackendKind::Wgpu && !b.devices.is_empty());
    match selected {
        Some(BackendKind::Cuda) => "an NVIDIA GPU and its driver are available".into(),
        Some(BackendKind::Wgpu) if has_gpu(BackendKind::Wgpu) => {
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
    let mut skipped = of(BackendKind::Wgpu)
        .into_iter()
        .flat_map(|backend| &backend.skipped);
    let refused = skipped.find(|adapter| adapter.is_refused);
    match refused.filter(|_| wgpu.is_empty()) {
        Some(SkippedAdapter {
            name, api, reason, ..
        }) => advice.push(format!("{name} ({api}): {reason}")),
        None if cfg!(feature = "wgpu") && wgpu.is_empty() => advice.push(
            "there is no adapter for wgpu: install the driver of your GPU with Vulkan (Debian: \
             apt-get install mesa-vulkan-drivers for AMD, Intel and a software adapter)"
                .into(),
        ),
        None => {}
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

#[cfg(test)]
mod tests;
