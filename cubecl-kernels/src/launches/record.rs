//! Records of launches.

use std::time::Duration;

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name of the kernel, without parameters.
    pub kernel: String,
    /// The problem that it computes a part of, for this project's convolutions and matrix products.
    pub problem: Option<String>,
    /// Start and end on the device; `None` if it was not timed, as on a device without timestamps.
    pub time: Option<LaunchTime>,
}

/// Start and end of a kernel by the clock of its stream: times of different streams cannot be compared. Where the GPU
/// waits for the host, CUDA also counts the time in which the host launches the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchTime {
    /// Start, from the start of the first kernel.
    pub start: Duration,
    /// End, from the start of the first kernel.
    pub end: Duration,
}
