//! One training step: features, samples, losses, gradients.

pub(crate) mod accumulate;
pub(crate) mod features;
pub(crate) mod gradients;
pub(crate) mod losses;
pub(crate) mod replicas;
pub(crate) mod samples;
pub(crate) mod sampling;
pub(crate) mod targets_device;
pub(crate) mod targets_host;
