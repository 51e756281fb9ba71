//! Pictures: decoding, resizing to tensors, drawing.

pub mod decode;
mod jpeg;
pub mod overlay;
pub mod paste;
mod placement;
mod resize;
pub mod transform;

pub use placement::Placement;

/// A decoded picture, 8 bits a channel.
pub use ::image::RgbImage;
