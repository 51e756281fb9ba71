//! Device selection from the requested backend, the features of this build and the hardware of this machine; also
//! communication between processes, precision, a watchdog and the report of `doctor`.
#![warn(missing_docs)]
// A library does not print, and the print macros panic if the output is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
mod adapters;
#[cfg(feature = "comm")]
pub mod comm;
#[cfg(not(target_family = "wasm"))]
mod doctor;
pub mod failure;
#[cfg(not(target_family = "wasm"))]
pub mod kernel_cache;
mod kind;
#[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
mod peak_rates;
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
pub use kind::{BackendError, BackendKind, Selected};
pub use precision::{Precision, PrecisionError, Resolved};
#[cfg(not(target_family = "wasm"))]
pub use tuning::{buffer_reads, count_buffer_reads, count_tuned_kernels, tuned_kernels};

#[cfg(any(feature = "flex", feature = "cuda"))]
use burn::tensor::Device;

/// Selects the device for `kind`. Fails if this build or this machine has none.
pub fn select(kind: BackendKind) -> Result<Selected, BackendError> {
    select_nth(kind, 0)
}

/// Selects the device for `kind` for the process `local_rank` of this machine: each process has its own NVIDIA GPU;
/// all share the CPU or the wgpu adapter.
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

/// The best adapter, which is a software renderer if there is nothing else.
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

/// The browser's adapter is only available asynchronously.
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
    let toolchain = toolchain::find(number);
    let found = toolchain.as_ref().ok();
    tuning::configure_cuda(found.map(|found| kernel_cache::name(&found.gpu, &found.driver)));
    let gpus = Device::enumerate(DeviceType::Cuda).len();
    if number >= gpus {
        let help = match gpus {
            0 => "it needs an NVIDIA GPU and its driver (see nvidia-smi)",
            _ => "there are more processes on this machine than GPUs (see nvidia-smi)",
        };
        return Err(BackendError::NoDevice(BackendKind::Cuda, help.into()));
    }
    let problem = match toolchain {
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
