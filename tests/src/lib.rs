//! Shared by the tests: golden values, weight recipe, devices.
//!
//! Golden values are read from the folder `MRCNN_GOLDEN`, by default `../shared/golden` beside the repository. Without
//! them, tests that need them print that they are skipped and pass, unless `MRCNN_REQUIRE` contains `golden`. It can also
//! contain `wgpu`, `cuda`, `data`, `tensorboard` and `results`, separated by commas; CI sets it.

pub mod close;
pub mod golden;
pub mod http_server;
pub mod protobuf;
pub mod recipe;
mod small_weights;
pub mod tensorflow_file;
pub mod torch_file;

use burn::tensor::Device;
use mrcnn_backends::watchdog::Operation;
use mrcnn_backends::{BackendKind, select};
pub use mrcnn_test_support::found;
use mrcnn_test_support::{test_operation, watch_device};
pub use small_weights::small_weights;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the repository")
}

/// Path of a built example of `mrcnn-core`; `cargo test --workspace` builds it beside the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let folder = test.parent().and_then(Path::parent);
    let folder = folder.expect("target/PROFILE/deps").join("examples");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let missing = "is missing: run `cargo test --workspace`";
    assert!(path.is_file(), "{} {missing}", path.display());
    path
}

/// A folder of real data in `../shared/data`, if it exists.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data").join(name);
    found(path.is_dir(), "data", &path.display().to_string()).then_some(path)
}

/// The devices of a test, for one test at a time: concurrent tests on one adapter would disturb autotuning, which takes
/// minutes on a software adapter.
///
/// Drop waits for the devices, because lavapipe aborts a process that exits while it compiles a shader.
pub struct Devices {
    list: std::vec::IntoIter<(BackendKind, Device)>,
    used: Vec<Device>,
    _operation: Operation,
    _lock: MutexGuard<'static, ()>,
}

impl Iterator for Devices {
    type Item = (BackendKind, Device);

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.list.next()?;
        self.used.push(next.1.clone());
        Some(next)
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        for device in &self.used {
            if let Err(error) = device.sync() {
                eprintln!("{device:?} failed after the test: {error}");
            }
        }
    }
}

/// The CPU, and the GPU of the backend under test if there is one.
pub fn devices() -> Devices {
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let mut devices = vec![(BackendKind::Cpu, Device::flex())];
    let kind = test_backend();
    match select(kind) {
        Ok(selected) => {
            watch_device(&selected);
            devices.push((kind, selected.device));
        }
        Err(error) => {
            found(false, &kind.to_string(), &error.to_string());
        }
    }
    Devices {
        list: devices.into_iter(),
        used: Vec::new(),
        _operation: test_operation(),
        _lock: lock,
    }
}

/// As [`devices`], for ResNet-50 with gradients or with v2's heads: a software device needs many minutes, so a GPU takes part
/// only where `MRCNN_TEST_BACKEND` asks for it.
pub fn devices_for_large_networks() -> Devices {
    let mut devices = devices();
    if std::env::var_os("MRCNN_TEST_BACKEND").is_none() {
        let all = std::mem::take(&mut devices.list);
        let (cpu, others): (Vec<_>, Vec<_>) = all.partition(|(kind, _)| *kind == BackendKind::Cpu);
        for (kind, _) in others {
            mrcnn_test_support::skip(&format!(
                "a large network on {kind}: MRCNN_TEST_BACKEND={kind} runs it"
            ));
        }
        devices.list = cpu.into_iter();
    }
    devices
}

/// The backend of the GPU under test, from `MRCNN_TEST_BACKEND`: `wgpu` (the default) or `cuda`.
pub fn test_backend() -> BackendKind {
    match std::env::var("MRCNN_TEST_BACKEND").as_deref() {
        Err(_) | Ok("wgpu") => BackendKind::Wgpu,
        Ok("cuda") => BackendKind::Cuda,
        Ok(other) => panic!("MRCNN_TEST_BACKEND is `wgpu` or `cuda`, not `{other}`"),
    }
}
