//! Layout of the outputs of a region proposal network.

/// Outputs per anchor: a logit and four deltas.
pub const OUTPUTS: usize = 5;
