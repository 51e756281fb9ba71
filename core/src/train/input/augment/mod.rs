//! What is done to training images. All of it is a function of an image's stream of random numbers,
//! so that a resumed run, and any number of ranks, see the same images.

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

/// Makes training images of decoded ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Augment {
    flip: f64,
    image: ImageConfig,
    config: AugmentConfig,
}

/// Places of an image's stream. Flips are where they were before there was anything else.
mod place {
    pub const FLIP: u64 = 0;
    pub const PASTE: u64 = 1;
    pub const SOURCE: u64 = 2;
    pub const SCALE: u64 = 3;
    pub const PHOTOMETRIC: u64 = 4;
    pub const OBJECTS: u64 = 5;
}

impl Augment {
    /// The augmentation that a run is configured to.
    pub fn new(config: &Config) -> Self {
        Self {
            flip: config.train.flip,
            image: config.image.clone(),
            config: config.augment.clone(),
        }
    }

    /// Where an image of `original` rows and columns comes to lie; nothing is decoded for it.
    pub fn placement(&self, original: (u32, u32), stream: Stream) -> Placement {
        let flip = stream.uniform(place::FLIP) < self.flip;
        let scale = stream.fork(place::SCALE);
        match self.config.jitter() {
            Some(range) => scale::jittered(original, flip, range, self.frame(), scale),
            None => {
                let size = scale::picked(original, &self.image, &self.config.min_sizes, scale);
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

    /// Rows and columns of the largest that [`Self::placement`] gives an image of `original`.
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

    /// Which of `count` images objects are copied from, if any are.
    pub fn source(&self, count: usize, stream: Stream) -> Option<usize> {
        let pastes = stream.uniform(place::PASTE) < self.config.copy_paste;
        pastes.then(|| (stream.bits(place::SOURCE) % count.max(1) as u64) as usize)
    }

    /// A decoded image and its ground truth, augmented; nothing is pasted onto it yet.
    pub fn prepare(&self, mut image: RgbImage, sample: &Sample, stream: Stream) -> TrainSample {
        distort(&mut image, &self.config, stream.fork(place::PHOTOMETRIC));
        let placement = self.placement((image.height(), image.width()), stream);
        TrainSample::placed(&image, sample, &self.image, &placement)
    }

    /// Pastes objects of `source` onto `target`, whose stream is given.
    pub fn paste(&self, target: &mut TrainSample, source: &TrainSample, stream: Stream) {
        paste(target, source, stream.fork(place::OBJECTS));
    }

    /// The stream of the image that objects are copied from, from that of the target.
    pub fn source_stream(stream: Stream) -> Stream {
        stream.fork(place::SOURCE)
    }
}
