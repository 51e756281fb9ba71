//! The exchange of a training step with the other ranks while it is computed.

use super::gradients::ParamGradients;
use super::samples::SampleCounts;
use super::sums::Sums;
use burn::tensor::ExecutionError;

/// The ranks that compute a step together. Each of them makes the same calls.
pub(crate) trait Peers {
    /// Errors of the step.
    type Error: From<ExecutionError>;
    /// The sums of the heads, which may still be on their way.
    type Heads;

    /// Whether [`Self::send_heads`] takes the gradients of the heads before the backward pass of the backbone.
    fn cuts_at_pyramid(&self) -> bool;

    /// The counts of all ranks.
    fn reduce_counts(&self, mine: SampleCounts) -> Result<SampleCounts, Self::Error>;

    /// Takes the losses and the gradients of the heads; of the whole model if the graph is not cut.
    fn send_heads(&self, mine: Sums) -> Result<Self::Heads, Self::Error>;

    /// The losses and gradients of all ranks, given the gradients of the backbone; none if the graph is not cut.
    fn finish(&self, heads: Self::Heads, backbone: ParamGradients) -> Result<Sums, Self::Error>;
}

/// A step without other ranks.
pub(crate) struct Alone;

impl Peers for Alone {
    type Error = ExecutionError;
    type Heads = Sums;

    fn cuts_at_pyramid(&self) -> bool {
        false
    }

    fn reduce_counts(&self, mine: SampleCounts) -> Result<SampleCounts, ExecutionError> {
        Ok(mine)
    }

    fn send_heads(&self, mine: Sums) -> Result<Sums, ExecutionError> {
        Ok(mine)
    }

    fn finish(&self, heads: Sums, backbone: ParamGradients) -> Result<Sums, ExecutionError> {
        Ok(heads.with_first(backbone))
    }
}
