//! Pictures: decoding, resizing to tensors, drawing.

pub mod decode;
pub mod overlay;
mod placement;
mod resize;
pub mod transform;

pub use placement::Placement;

/// A decoded picture, 8 bits a channel.
pub use ::image::RgbImage;
