//! Pictures: decoding, resizing to tensors, drawing.

pub mod decode;
pub mod overlay;
pub mod transform;
