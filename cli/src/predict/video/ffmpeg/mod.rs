//! The frames of a video, and an annotated video, through `ffmpeg`.

mod decoder;
mod encoder;
mod process;

pub use decoder::{Decoder, Frame};
pub use encoder::Encoder;
