//! One training step: features, samples, losses, gradients.

pub(crate) mod accumulate;
pub(crate) mod cut;
pub(crate) mod features;
pub(crate) mod gradients;
pub(crate) mod graph;
pub(crate) mod inputs;
pub(crate) mod losses;
pub(crate) mod params;
pub(crate) mod peers;
pub(crate) mod replicas;
pub(crate) mod samples;
pub(crate) mod sums;
pub(crate) mod targets;
