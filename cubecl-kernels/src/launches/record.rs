//! What is recorded of a launch.

use std::time::Duration;

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name of the kernel, without parameters.
    pub kernel: String,
    /// The problem that it computes a part of, for this project's convolutions and matrix products.
    pub problem: Option<String>,
    /// When it ran; `None` if it was not timed, as with a device that has no clock that kernels can read.
    pub time: Option<LaunchTime>,
}

/// When a kernel ran, by the clock of its stream: times of different streams cannot be compared. On a device that waits for
/// the host, CUDA counts the time in which the host launches the kernel, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchTime {
    /// From the start of the first kernel.
    pub start: Duration,
    /// From the start of the first kernel.
    pub end: Duration,
}
