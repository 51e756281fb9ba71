//! Images: decoding, resizing, conversion to tensors, mask pasting and drawing.

pub mod decode;
mod foreign;
mod frames;
mod jpeg;
mod jpeg_scan;
pub mod overlay;
pub mod paste;
mod placement;
mod resize;
mod size;
pub mod transform;

pub use placement::Placement;

/// Extensions of image files in lower case. The format of a file is detected from its contents.
pub const EXTENSIONS: [&str; 9] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "bmp", "webp", "tif", "tiff",
];

/// A decoded image with 8 bits per channel.
pub use ::image::RgbImage;
