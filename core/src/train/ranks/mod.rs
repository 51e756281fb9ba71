//! What the ranks of a run exchange.

pub(crate) mod exchange;
