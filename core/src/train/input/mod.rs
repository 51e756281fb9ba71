//! Training input: batches of augmented images with their ground truth, in a reproducible order.

pub(crate) mod augment;
pub(crate) mod batch;
pub(crate) mod buckets;
pub(crate) mod loader;
pub(crate) mod masks;
pub(crate) mod order;
pub(crate) mod preview;
