//! What is recorded of a launch.

use std::time::Duration;

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name of the kernel, without parameters.
    pub kernel: String,
    /// The problem that it computes a part of, for convolutions and matrix products.
    pub problem: Option<String>,
    /// When it ran; `None` if it was not timed, as with a device that has no clock that kernels can read.
    pub time: Option<LaunchTime>,
}

/// When a kernel ran on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchTime {
    /// From the start of the recording to the start of the kernel.
    pub start: Duration,
    /// From the start of the recording to the end of the kernel.
    pub end: Duration,
}
