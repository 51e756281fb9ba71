//! Settings of kernel tuning, and a count of the kernels that were tuned.
//!
//! Burn times several kernels for every new shape and keeps the fastest. That is quick on a GPU, but takes
//! minutes on a software renderer: there, each candidate is timed only once.

use crate::watchdog;
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Applies the settings. Only the first call of a process has an effect; call it before a device is opened.
///
/// A `cubecl.toml` and CubeCL's environment variables take precedence: `CUBECL_AUTOTUNE_LEVEL=1` tunes a
/// software renderer like a GPU.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn configure(is_software: bool) {
    use cubecl_runtime::config::autotune::{AutotuneLevel, BenchConfig};
    use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig};
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    let tuning = &mut config.autotune;
    tuning.logger.log.get_or_insert_default();
    let is_default = matches!(tuning.level, AutotuneLevel::Balanced)
        && std::env::var_os("CUBECL_AUTOTUNE_LEVEL").is_none();
    if is_software && is_default {
        tuning.level = AutotuneLevel::Minimal;
        tuning.bench = BenchConfig {
            min_samples: 1,
            max_samples: 1,
            short_circuit_samples: 1,
            ..BenchConfig::default()
        };
    }
    CubeClRuntimeConfig::try_set(config);
}

static TUNED: AtomicUsize = AtomicUsize::new(0);
static LISTENER: OnceLock<fn(usize)> = OnceLock::new();

/// Number of kernels that this process has tuned, if [`count_tuned_kernels`] was called.
pub fn tuned_kernels() -> usize {
    TUNED.load(Ordering::Relaxed)
}

/// Counts tuned kernels and calls `on_kernel` with the count after each, from the device's thread. Every
/// tuned kernel counts as progress for the [`watchdog`].
///
/// Installs a logger for the `log` crate, through which CubeCL reports; does nothing if the program has
/// installed its own.
pub fn count_tuned_kernels(on_kernel: fn(usize)) {
    let is_ours = log::set_logger(&TuningLog).is_ok();
    if is_ours {
        log::set_max_level(LevelFilter::Info);
        LISTENER.get_or_init(|| on_kernel);
    }
}

struct TuningLog;

impl Log for TuningLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target() == "cubecl::autotune"
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let count = TUNED.fetch_add(1, Ordering::Relaxed) + 1;
        watchdog::touch();
        if let Some(listener) = LISTENER.get() {
            listener(count);
        }
    }

    fn flush(&self) {}
}
