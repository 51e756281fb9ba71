//! A watchdog for devices that stop responding.
//!
//! A driver, or a deadlock in a GPU runtime, can leave the program waiting forever. Work on a device holds an
//! [`Operation`]; a thread started by [`watch`] calls back if an operation makes no progress for
//! far longer than any kernel or tuning round takes. In a browser nothing is watched.

#[cfg(not(target_family = "wasm"))]
mod stall;
#[cfg(not(target_family = "wasm"))]
pub use stall::{DEFAULT_LIMIT, Stall, exit_now, limit_from_env, watch};

/// Work on a device, from [`operation`] until it is dropped.
#[derive(Debug)]
#[must_use = "the operation ends where it is dropped"]
pub struct Operation(());

/// Starts an operation, e.g. "predicting an image of 640x480".
#[cfg_attr(target_family = "wasm", allow(unused_variables))]
pub fn operation(name: impl Into<String>) -> Operation {
    #[cfg(not(target_family = "wasm"))]
    stall::begin(name.into());
    Operation(())
}

impl Operation {
    /// Reports progress under a new name, e.g. "training step 12".
    #[cfg_attr(target_family = "wasm", allow(unused_variables))]
    pub fn progress(&self, name: impl Into<String>) {
        #[cfg(not(target_family = "wasm"))]
        stall::progress(Some(name.into()));
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        #[cfg(not(target_family = "wasm"))]
        stall::end();
    }
}

/// Reports progress of the current operation, whichever it is.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn touch() {
    stall::progress(None);
}
