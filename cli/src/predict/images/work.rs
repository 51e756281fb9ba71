//! Items that the threads pass to each other.

use crate::predict::input::Input;
use mrcnn_core::Prediction;
use mrcnn_core::image::decode::Decoded;
use std::time::Duration;

/// An image between two threads: the position, the image, and its content or the reason that it cannot be read.
pub struct Work<'a, T> {
    pub index: usize,
    pub input: &'a Input,
    pub content: Result<T, String>,
}

/// A decoded image with its objects.
pub struct Predicted {
    pub decoded: Decoded,
    pub found: Prediction,
    pub time: Duration,
}
