//! Device selection with the checks of the kernels that run on the device.

use mrcnn_backends::{BackendError, BackendKind, Selected, select_nth};

/// Selects the device for the process `local_rank` of this machine, as [`select_nth`], and checks the settings of its
/// kernels in the environment, so that invalid ones are rejected here and not in the first kernel.
pub fn select_device(kind: BackendKind, local_rank: usize) -> Result<Selected, BackendError> {
    let selected = select_nth(kind, local_rank)?;
    #[cfg(feature = "flex")]
    if selected.kind == BackendKind::Cpu {
        mrcnn_kernels::check_isa().map_err(|error| BackendError::Setting(error.to_string()))?;
    }
    Ok(selected)
}
