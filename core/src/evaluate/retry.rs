//! Retries for reading an image after a disk error.

use crate::data::Sample;
use crate::image::RgbImage;
use crate::image::decode::DecodeError;
use std::time::Duration;

/// Delays before an image is read again: a network file system may recover.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// The image of a sample; if its file cannot be read, it is tried three more times. A damaged file is not
/// retried.
pub(crate) fn read(sample: &Sample) -> Result<RgbImage, DecodeError> {
    for pause in PAUSES {
        match sample.image() {
            Err(DecodeError::Io { .. }) => std::thread::sleep(pause),
            result => return result,
        }
    }
    sample.image()
}
