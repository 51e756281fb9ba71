//! Augmentation of training images. Every choice is a function of an image's stream of random numbers,
//! so that a resumed run, and any number of ranks, get the same images.

mod copy_paste;
mod photometric;
mod scale;

use crate::config::{AugmentConfig, Config, ImageConfig};
use crate::data::Sample;
use crate::image::Placement;
use crate::random::Stream;
use crate::train::input::batch::TrainSample;
use ::image::RgbImage;

pub use copy_paste::paste;
pub use photometric::distort;

/// Augments decoded images for training.
#[derive(Clone, Debug, PartialEq)]
pub struct Augment {
    flip: f64,
    image: ImageConfig,
    config: AugmentConfig,
}

/// Indices into an image's random stream. Flips keep the index of the first version, so that runs stay reproducible.
mod place {
    pub const FLIP: u64 = 0;
    pub const PASTE: u64 = 1;
    pub const SOURCE: u64 = 2;
    pub const SCALE: u64 = 3;
    pub const PHOTOMETRIC: u64 = 4;
    pub const OBJECTS: u64 = 5;
}

impl Augment {
    /// The augmentation of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            flip: config.train.flip,
            image: config.image.clone(),
            config: config.augment.clone(),
        }
    }

    /// Placement of an image of `original` rows and columns; the image is not decoded for it.
    pub fn placement(&self, original: (u32, u32), stream: Stream) -> Placement {
        let flip = stream.uniform(place::FLIP) < self.flip;
        let scale = stream.fork(place::SCALE);
        match self.config.jitter() {
            Some(range) => scale::jittered(original, flip, range, self.frame(), scale),
            None => {
                let size =
                    scale::sampled_size(original, &self.image, &self.config.min_sizes, scale);
                Placement::whole(original, size, flip)
            }
        }
    }

    /// Side of the square frame of the scale jitter.
    fn frame(&self) -> u32 {
        match self.config.jitter_size {
            0 => self.image.max_size,
            side => side,
        }
    }

    /// Rows and columns of the largest placement that [`Self::placement`] returns for an image of `original`.
    pub fn largest(&self, (height, width): (u32, u32)) -> (u32, u32) {
        match (self.config.jitter(), self.config.min_sizes.iter().max()) {
            (Some(_), _) => (self.frame(), self.frame()),
            (None, Some(&min_size)) => {
                let image = ImageConfig {
                    min_size,
                    ..self.image.clone()
                };
                image.resized(height, width)
            }
            (None, None) => self.image.resized(height, width),
        }
    }

    /// Index of the image, out of `count`, from which objects are copied; `None` without copy-paste.
    pub fn source(&self, count: usize, stream: Stream) -> Option<usize> {
        let pastes = stream.uniform(place::PASTE) < self.config.copy_paste;
        pastes.then(|| (stream.bits(place::SOURCE) % count.max(1) as u64) as usize)
    }

    /// Augments a decoded image and its ground truth, without copy-paste.
    pub fn prepare(&self, mut image: RgbImage, sample: &Sample, stream: Stream) -> TrainSample {
        distort(&mut image, &self.config, stream.fork(place::PHOTOMETRIC));
        let placement = self.placement((image.height(), image.width()), stream);
        TrainSample::placed(&image, sample, &self.image, &placement)
    }

    /// Pastes objects of `source` onto `target`; `stream` is that of `target`.
    pub fn paste(&self, target: &mut TrainSample, source: &TrainSample, stream: Stream) {
        paste(target, source, stream.fork(place::OBJECTS));
    }

    /// The stream of the copy-paste source image, derived from that of the target.
    pub fn source_stream(stream: Stream) -> Stream {
        stream.fork(place::SOURCE)
    }
}
