//! Convolutions on the CPU: the output, the gradient of the input and the gradient of the weights.
//!
//! f32, NCHW, odd square kernels with "same" padding and any stride. Results do not depend on the
//! number of threads: every sum is computed by one thread, in an order that depends only on the shapes and
//! on the instruction set.

mod elementwise;
mod geometry;
mod isa;
mod kernels;
mod output;
mod product;
mod scratch;
mod simd;
#[cfg(test)]
mod tests;
mod weight_gradient;
mod weights;

pub use elementwise::{channel_sums, mask_by, row_products, scale_rows};
pub use geometry::ConvShape;
pub use isa::{UnknownIsa, check_isa, selected};
pub use output::Output;
pub use product::{Epilogue, forward, input_gradient};
pub use scratch::with_scratch;
pub use weight_gradient::weight_gradient;
pub use weights::Weights;
