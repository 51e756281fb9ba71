//! Communication between the ranks of a run.

pub(crate) mod exchange;
mod peers;
