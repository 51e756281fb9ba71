//! What the ranks of a run exchange.

pub(crate) mod exchange;
pub(crate) mod gathered;
pub(crate) mod handout;
