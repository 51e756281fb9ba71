//! One training step: sampling, losses and gradients.

pub(crate) mod accumulate;
pub(crate) mod counts;
pub(crate) mod device;
pub(crate) mod gradients;
pub(crate) mod host;
pub mod losses;
pub(crate) mod replicas;
pub(crate) mod targets_device;
pub(crate) mod targets_host;
