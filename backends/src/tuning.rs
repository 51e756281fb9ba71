//! Settings of kernel tuning, and counts of the kernels that were tuned and of the buffers that were read.
//!
//! Burn times several kernels for every new shape and keeps the fastest. That is quick on a GPU, but takes
//! minutes on a software renderer: there, each candidate is timed only once, CubeCL does not measure the device's peak
//! rates (`peak_rates.rs`), and matrix products are not tuned.

use crate::watchdog;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Applies the settings. Only the first call of a process has an effect; call it before a device is opened.
///
/// A `cubecl.toml` and CubeCL's environment variables take precedence: `CUBECL_AUTOTUNE_LEVEL=1` tunes a
/// software renderer like a GPU.
#[cfg(feature = "wgpu")]
pub(crate) fn configure(is_software: bool) {
    use cubecl_runtime::config::autotune::{AutotuneLevel, BenchConfig};
    let mut config = current();
    let tuning = &mut config.autotune;
    let is_default = matches!(tuning.level, AutotuneLevel::Balanced)
        && std::env::var_os("CUBECL_AUTOTUNE_LEVEL").is_none();
    if is_software && is_default {
        // mrcnn-kernels reads it: `capability::has_preset_products`.
        tuning.level = AutotuneLevel::Minimal;
        tuning.bench = BenchConfig {
            min_samples: 1,
            max_samples: 1,
            short_circuit_samples: 1,
            ..BenchConfig::default()
        };
    }
    disable_default_caches(&mut config);
    CubeClRuntimeConfig::try_set(config);
}

/// As [`configure`], for CUDA: kernels and the results of tuning are kept in the folder of the kernel cache, under
/// `name`. A `cubecl.toml` that names a folder of its own takes precedence.
#[cfg(feature = "cuda")]
pub(crate) fn configure_cuda(name: Option<String>) {
    use crate::kernel_cache;
    use cubecl_runtime::config::cache::CacheConfig;
    let mut config = current();
    if let Some((folder, name)) = kernel_cache::folder().zip(name)
        && has_usual_folder(&config)
    {
        // An old database that stays costs space only.
        let _ = kernel_cache::prune(&folder);
        config.environment.path = CacheConfig::Directory(folder);
        config.environment.name = name;
        // Records of the sessions that filled the database, of which the last one is enough.
        config.environment.records.keep_sessions = Some(1);
        config.compilation.cache = true;
    }
    disable_default_caches(&mut config);
    CubeClRuntimeConfig::try_set(config);
}

/// CubeCL's settings of the current folder and the environment, with a log of tuned kernels.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn current() -> CubeClRuntimeConfig {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.autotune.logger.log.get_or_insert_default();
    config
}

/// Prevents writes to CubeCL's usual folder, which is `target` of a Rust project around the current folder. CubeCL
/// would create a database there even if no results of tuning are kept; if the folder cannot be created, it stays in
/// memory.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn disable_default_caches(config: &mut CubeClRuntimeConfig) {
    use cubecl_runtime::config::cache::CacheConfig;
    if has_usual_folder(config) {
        config.environment.path = CacheConfig::Directory(below_a_file());
    }
}

/// Whether CubeCL may keep results for other processes, in a folder that a `cubecl.toml` names.
#[cfg(feature = "wgpu")]
pub(crate) fn keeps_results(config: &CubeClRuntimeConfig) -> bool {
    use cubecl_runtime::config::cache::CacheConfig;
    !matches!(&config.environment.path, CacheConfig::Directory(folder) if *folder == below_a_file())
}

/// A path at which no folder can be created, not even while the program's file is being replaced.
#[cfg(all(any(feature = "wgpu", feature = "cuda"), unix))]
fn below_a_file() -> std::path::PathBuf {
    "/dev/null/none".into()
}

/// A path at which no folder can be created: Windows keeps the file of a running program.
#[cfg(all(any(feature = "wgpu", feature = "cuda"), not(unix)))]
fn below_a_file() -> std::path::PathBuf {
    std::env::current_exe().unwrap_or_default().join("none")
}

/// Whether no `cubecl.toml` names a folder for what CubeCL keeps.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn has_usual_folder(config: &CubeClRuntimeConfig) -> bool {
    use cubecl_runtime::config::cache::CacheConfig;
    matches!(config.environment.path, CacheConfig::Target)
}

static TUNED: AtomicUsize = AtomicUsize::new(0);
static READS: AtomicUsize = AtomicUsize::new(0);
static LISTENER: OnceLock<fn(usize)> = OnceLock::new();

/// Whether the logger of this process is [`DeviceLog`].
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

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
    let is_ours = log::set_logger(&DeviceLog).is_ok();
    if is_ours {
        IS_INSTALLED.store(true, Ordering::SeqCst);
        log::set_max_level(LevelFilter::Info);
        LISTENER.get_or_init(|| on_kernel);
    }
}

/// Starts or stops counting the reads of wgpu buffers; returns whether this process can count them. For tests,
/// because it slows the devices down. Call it after [`count_tuned_kernels`], whose logger counts them; does nothing
/// and returns false if the program has installed its own logger.
///
/// wgpu-core logs every mapping of a buffer: reads of results, of clocks while kernels are tuned, and of inputs of
/// operators that run on the CPU instead.
#[doc(hidden)]
pub fn count_buffer_reads(is_counted: bool) -> bool {
    let is_ours = IS_INSTALLED.load(Ordering::SeqCst);
    if is_ours {
        log::set_max_level(match is_counted {
            true => LevelFilter::Trace,
            false => LevelFilter::Info,
        });
    }
    is_ours
}

/// Number of buffers that were read while they were counted, see [`count_buffer_reads`].
#[doc(hidden)]
pub fn buffer_reads() -> usize {
    READS.load(Ordering::SeqCst)
}

/// Logger that counts tuned kernels and reads of buffers.
struct DeviceLog;

fn is_tuning(metadata: &Metadata) -> bool {
    metadata.target() == "cubecl::autotune" && metadata.level() <= Level::Info
}

fn is_wgpu(metadata: &Metadata) -> bool {
    metadata.target().starts_with("wgpu_core")
}

impl Log for DeviceLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        is_tuning(metadata) || is_wgpu(metadata)
    }

    fn log(&self, record: &Record) {
        if is_tuning(record.metadata()) {
            kernel_was_tuned();
        } else if is_wgpu(record.metadata()) {
            let line = record.args().to_string();
            if line.starts_with("Buffer::map_async") {
                READS.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn flush(&self) {}
}

fn kernel_was_tuned() {
    let count = TUNED.fetch_add(1, Ordering::Relaxed) + 1;
    watchdog::touch();
    if let Some(listener) = LISTENER.get() {
        listener(count);
    }
}
