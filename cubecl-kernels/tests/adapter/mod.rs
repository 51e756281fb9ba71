//! The GPU on which kernels are compared with the CPU versions.
//!
//! `MRCNN_TEST_BACKEND` is its backend, `wgpu` (the default) or `cuda`. If the machine has none, the
//! tests report that and pass, unless the variable or `MRCNN_REQUIRE` requires it.

use burn::tensor::Device;
use mrcnn_backends::watchdog::Operation;
use mrcnn_backends::{BackendKind, select};
use mrcnn_test_support::{found, test_operation, watch_device};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The adapter, for one test at a time: concurrent tests would disturb each other's kernel tuning.
///
/// When dropped, it waits for queued work: lavapipe aborts a process that exits while it
/// compiles a shader.
pub struct Adapter {
    /// The device, without autodiff.
    pub device: Device,
    /// The name of its backend.
    #[allow(dead_code, reason = "some tests print it")]
    pub name: &'static str,
    _operation: Operation,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if let Err(error) = self.device.sync() {
            eprintln!("{:?} failed after the test: {error}", self.device);
        }
    }
}

/// The adapter of the backend under test, if there is one.
pub fn adapter() -> Option<Adapter> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let requested = std::env::var("MRCNN_TEST_BACKEND").ok();
    let (kind, name) = match requested.as_deref() {
        None | Some("wgpu") => (BackendKind::Wgpu, "wgpu"),
        Some("cuda") => (BackendKind::Cuda, "cuda"),
        Some(other) => panic!("MRCNN_TEST_BACKEND is `wgpu` or `cuda`, not `{other}`"),
    };
    match select(kind) {
        Ok(selected) => {
            watch_device(&selected);
            Some(Adapter {
                device: selected.device,
                name,
                _operation: test_operation(),
                _turn: turn,
            })
        }
        Err(error) => {
            assert!(
                requested.is_none(),
                "MRCNN_TEST_BACKEND names `{name}`, which is missing: {error}"
            );
            found(false, name, &error.to_string());
            None
        }
    }
}
