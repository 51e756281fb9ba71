//! Pictures: decoding, resizing to tensors, drawing.

pub mod decode;
pub mod overlay;
pub mod paste;
pub mod transform;

/// A decoded picture, 8 bits a channel.
pub use ::image::RgbImage;
