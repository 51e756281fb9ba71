//! Means over the ranks that are computed while other work runs.

use super::CommError;
use burn::tensor::Tensor;
use std::fmt;

/// A mean over the ranks that has been started, see
/// [`start_all_reduce_mean`](super::Communicator::start_all_reduce_mean). Dropped unfinished, it waits for its end.
pub struct Reduction<'a>(Box<dyn FnOnce() -> Result<Vec<Tensor<1>>, CommError> + 'a>);

impl<'a> Reduction<'a> {
    /// A reduction that has ended.
    pub fn complete(means: Vec<Tensor<1>>) -> Self {
        Self::until(|| Ok(means))
    }

    /// A reduction that ends in `finish`, or when `finish` is dropped.
    pub fn until(finish: impl FnOnce() -> Result<Vec<Tensor<1>>, CommError> + 'a) -> Self {
        Self(Box::new(finish))
    }

    /// Waits for the other ranks; returns the means, in the order of the tensors that were given.
    pub fn finish(self) -> Result<Vec<Tensor<1>>, CommError> {
        (self.0)()
    }
}

impl fmt::Debug for Reduction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reduction")
    }
}
