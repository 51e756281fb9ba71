//! Optimization: updates, learning rate, loss scale, averaged weights.

pub(crate) mod ema;
pub(crate) mod loss_scale;
pub(crate) mod optimizer;
pub(crate) mod optimizer_state;
pub(crate) mod schedule;
