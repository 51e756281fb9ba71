//! Decoding of the frames of a video and encoding of an annotated video, through `ffmpeg`.

mod decoder;
mod encoder;
mod process;

pub use decoder::{Decoder, Frame};
pub use encoder::Encoder;
