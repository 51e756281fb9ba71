//! The peak rates of a software renderer, which CubeCL would measure in every process.
//!
//! CubeCL stops tuning at a kernel that takes little longer than the device's peak rates of arithmetic and memory allow.
//! Measuring these rates takes lavapipe 17 to 31 s (benches/RESULTS.md, 2026-12-01), and nothing is kept for the next
//! process. Unknown rates are zero in CubeCL, too: then tuning does not stop early. With low rates it would stop at the
//! first kernel, but for a sum that is the one with a single loop, whose rounds a software renderer limits
//! (CONTRIBUTING.md).

use burn::backend::{DispatchDevice, cubecl::dtype_to_storage_type};
use burn::tensor::{DType, Device};
use cubecl_runtime::config::autotune::AutotuneLevel;
use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl_runtime::throughput::{
    MemoryAccess, MemorySpec, ThroughputCache, ThroughputKey, ThroughputMode, ThroughputValue,
    working_set_sweep,
};

/// Bytes of the largest rate of memory that tuning asks for, 1 GiB.
const LARGEST: u64 = MemoryAccess::Copy.default_working_set();

/// Sets the rates of `device`, a software renderer, as unknown, so that CubeCL does not measure them. Does nothing if the
/// device is tuned like a GPU, or if a `cubecl.toml` names a folder, which would keep the zeros for processes that tune
/// like a GPU.
pub(crate) fn preset(device: &Device) {
    let config = CubeClRuntimeConfig::get();
    let is_minimal = matches!(config.autotune.level, AutotuneLevel::Minimal);
    let DispatchDevice::Cube(device) = device.as_dispatch() else {
        return;
    };
    if !is_minimal || crate::tuning::keeps_results(&config) {
        return;
    }
    let client = device.client();
    let rates = ThroughputCache::get_for_device(client.name(), client.properties());
    for mode in modes() {
        let key = ThroughputKey { mode };
        rates.lock().insert(key, ThroughputValue::ZERO);
    }
}

/// The rates that Burn's tuning asks for on a device without matrix units.
fn modes() -> impl Iterator<Item = ThroughputMode> {
    use DType::*;
    let dtypes = [F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8];
    let arithmetic = dtypes.map(|dtype| ThroughputMode::ComputeDirect {
        dtype: dtype_to_storage_type(dtype),
    });
    let accesses = [MemoryAccess::Copy, MemoryAccess::Read, MemoryAccess::Write];
    let memory = accesses.into_iter().flat_map(|access| {
        let sizes = working_set_sweep(LARGEST).into_iter();
        sizes.map(move |bytes| ThroughputMode::Memory(MemorySpec::new(access, bytes)))
    });
    arithmetic
        .into_iter()
        .chain(memory)
        .chain([ThroughputMode::Launch])
}
