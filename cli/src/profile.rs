//! The Cargo profile of this build: the workspace's `release` profile leaves the code that launches GPU kernels
//! unoptimized, which builds faster; `dist` optimizes everything.

use mrcnn_backends::{BackendKind, Selected};

/// Name of the Cargo profile.
pub const PROFILE: &str = env!("MRCNN_PROFILE");

/// Advice for a faster host, if the device is a GPU and the code that launches its kernels is unoptimized.
pub fn advice(selected: &Selected) -> Option<String> {
    let is_quick = env!("MRCNN_QUICK_BUILD") == "true";
    let is_gpu = selected.kind != BackendKind::Cpu && !selected.is_software;
    (is_quick && is_gpu).then(|| {
        format!(
            "this program is built with the profile {PROFILE}, which leaves the code that launches GPU kernels \
             unoptimized; build it with --profile dist to launch them sooner"
        )
    })
}
