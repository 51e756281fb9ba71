//! What a training step exchanges with the other ranks while it is computed.

use super::accumulate::Sums;
use super::gradients::ParamGradients;
use super::samples::SampleCounts;
use burn::tensor::ExecutionError;

/// The ranks that compute a step together. Each of them makes the same calls.
pub(crate) trait Peers {
    /// Errors of the step.
    type Error: From<ExecutionError>;
    /// The sums of the heads, which may still be on their way.
    type Heads;

    /// Whether [`Self::heads`] takes the gradients of the heads before the backward pass of the backbone.
    fn cuts_at_pyramid(&self) -> bool;

    /// The counts of all ranks.
    fn counts(&self, mine: SampleCounts) -> Result<SampleCounts, Self::Error>;

    /// Takes the losses and the gradients of the heads; of the whole model if the graph is not cut.
    fn heads(&self, mine: Sums) -> Result<Self::Heads, Self::Error>;

    /// The losses and gradients of all ranks, given the gradients of the backbone; none if the graph is not cut.
    fn sums(&self, heads: Self::Heads, backbone: ParamGradients) -> Result<Sums, Self::Error>;
}

/// A step without other ranks.
pub(crate) struct Alone;

impl Peers for Alone {
    type Error = ExecutionError;
    type Heads = Sums;

    fn cuts_at_pyramid(&self) -> bool {
        false
    }

    fn counts(&self, mine: SampleCounts) -> Result<SampleCounts, ExecutionError> {
        Ok(mine)
    }

    fn heads(&self, mine: Sums) -> Result<Sums, ExecutionError> {
        Ok(mine)
    }

    fn sums(&self, heads: Sums, backbone: ParamGradients) -> Result<Sums, ExecutionError> {
        Ok(heads.after(backbone))
    }
}
