//! The wgpu adapter that GPU kernels are compared with the CPU versions on.

use burn::tensor::Device;
use mrcnn_backends::{BackendKind, select};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The adapter, for one test at a time: two at once would spoil each other's tuning of kernels.
///
/// Dropped, it waits for what the device still has to do: lavapipe aborts a process that exits while
/// it compiles a shader.
pub struct Adapter {
    /// The device, without autodiff.
    pub device: Device,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if let Err(error) = self.device.sync() {
            eprintln!("{:?} failed after the test: {error}", self.device);
        }
    }
}

/// The adapter; where there is none, says so, or fails if `MRCNN_REQUIRE` names `wgpu`.
pub fn adapter() -> Option<Adapter> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match select(BackendKind::Wgpu) {
        Ok(selected) => Some(Adapter {
            device: selected.device,
            _turn: turn,
        }),
        Err(error) => {
            let required = std::env::var("MRCNN_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name.trim() == "wgpu"),
                "MRCNN_REQUIRE names `wgpu`, which is missing: {error}"
            );
            eprintln!("SKIPPED: wgpu is missing: {error}");
            None
        }
    }
}
