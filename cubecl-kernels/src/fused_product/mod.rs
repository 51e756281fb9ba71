//! Matrix products on matrix units with a fused epilogue: bias, residual and ReLU of a convolution, or the mask of a
//! ReLU in its gradient, without another pass over memory.

mod args;
mod launch;
#[cfg(all(test, feature = "flex"))]
mod tests;
mod tuned;

pub(crate) use args::WithEpilogue;
pub(crate) use launch::{Epilogue, elements};
pub(crate) use tuned::product;
