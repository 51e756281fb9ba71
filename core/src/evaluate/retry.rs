//! Reading an image again where the disk failed.

use crate::data::Sample;
use crate::image::RgbImage;
use crate::image::decode::DecodeError;
use std::time::Duration;

/// Pauses before an image is read again: a network disk may need a moment.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// The image of a sample; where its file cannot be read, it is tried again three times. A damaged file stays
/// damaged.
pub(crate) fn read(sample: &Sample) -> Result<RgbImage, DecodeError> {
    for pause in PAUSES {
        match sample.image() {
            Err(DecodeError::Io { .. }) => std::thread::sleep(pause),
            result => return result,
        }
    }
    sample.image()
}
