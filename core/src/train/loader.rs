//! Batches prepared in the background, in an order that is a function of the seed.

use super::batch::{Batch, TrainSample};
use super::ranks::Rank;
use crate::config::{Config, ImageConfig};
use crate::data::{Dataset, OnProblem, Sample, size_mismatch};
use crate::image::decode::DecodeError;
use crate::image::transform::padded_size;
use crate::random::Stream;
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use thiserror::Error;

/// Why a batch could not be prepared.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A picture cannot be read.
    #[error("{0}; leave it out with --set data.on_problem=skip")]
    Decode(#[from] DecodeError),
    /// A picture is not what its entry says.
    #[error("{path}: {reason}; leave it out with --set data.on_problem=skip")]
    Size {
        /// The picture.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Every picture of a batch was left out.
    #[error("no picture of a batch could be read; run `mrcnn-cli dataset check`")]
    NothingLeft,
    /// The threads that decode cannot be started.
    #[error("cannot start the loader threads: {0}; lower data.workers")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Prepares batches ahead of the training step, at most two of them.
pub struct Loader {
    batches: Receiver<Result<Batch, LoadError>>,
}

impl Loader {
    /// Starts at step `first` of the configured run, on `rank`'s share of each step's pictures.
    pub fn start(
        dataset: Arc<Dataset>,
        config: &Config,
        first: usize,
        rank: Rank,
    ) -> Result<Self, LoadError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.data.workers)
            .build()?;
        let plan = Plan {
            stream: Stream::named("loader", config.train.seed),
            batch_size: config.train.batch_size,
            rank,
            flip: config.train.flip,
            on_problem: config.data.on_problem,
            image: config.image.clone(),
        };
        let steps = config.train.steps;
        let (sender, batches) = sync_channel(2);
        std::thread::spawn(move || {
            for step in first..steps {
                let batch = pool.install(|| plan.batch(&dataset, step));
                // The training loop has ended early: nobody is waiting any more.
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        Ok(Self { batches })
    }

    /// The next batch; `None` after the last step.
    pub fn next_batch(&self) -> Option<Result<Batch, LoadError>> {
        self.batches.recv().ok()
    }
}

struct Plan {
    stream: Stream,
    batch_size: usize,
    rank: Rank,
    flip: f64,
    on_problem: OnProblem,
    image: ImageConfig,
}

impl Plan {
    fn batch(&self, dataset: &Dataset, step: usize) -> Result<Batch, LoadError> {
        let places = self.rank.share(self.batch_size);
        let samples: Result<Vec<Option<(usize, TrainSample)>>, LoadError> = places
            .into_par_iter()
            .map(|place| {
                let position = step * self.batch_size + place;
                let flip = self.stream.fork(!(position as u64)).uniform(0) < self.flip;
                let sample = self.sample(self.at(dataset, position), flip)?;
                Ok(sample.map(|sample| (place, sample)))
            })
            .collect();
        let samples: Vec<_> = samples?.into_iter().flatten().collect();
        // Several ranks find out together whether any of them has a picture.
        if samples.is_empty() && self.rank.world == 1 {
            return Err(LoadError::NothingLeft);
        }
        Ok(Batch::of_share(samples, self.padded_size(dataset, step)))
    }

    /// What comes at `position` of the endless order of pictures.
    fn at<'a>(&self, dataset: &'a Dataset, position: usize) -> &'a Sample {
        let count = dataset.samples.len();
        let (epoch, place) = (position / count, position % count);
        let index = shuffled(self.stream.fork(epoch as u64), count, place);
        &dataset.samples[index]
    }

    /// Height and width of the whole step, whichever part of it this rank has: padding changes what a
    /// network computes near the border.
    fn padded_size(&self, dataset: &Dataset, step: usize) -> (usize, usize) {
        let positions = step * self.batch_size..(step + 1) * self.batch_size;
        let sizes = positions.map(|position| {
            let sample = self.at(dataset, position);
            self.image.resized(sample.height, sample.width)
        });
        padded_size(sizes, self.image.size_divisor, self.image.smallest_batch())
    }

    fn sample(&self, sample: &Sample, flip: bool) -> Result<Option<TrainSample>, LoadError> {
        match self.read(sample, flip) {
            Ok(sample) => Ok(Some(sample)),
            Err(_) if self.on_problem == OnProblem::Skip => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, sample: &Sample, flip: bool) -> Result<TrainSample, LoadError> {
        let image = sample.image()?;
        if let Some(reason) = size_mismatch(sample, image.dimensions()) {
            return Err(LoadError::Size {
                path: sample.path.clone(),
                reason,
            });
        }
        Ok(TrainSample::new(image, sample, &self.image, flip))
    }
}

/// Which of `count` comes at `place` of an epoch: a keyed permutation that needs no list, so that any
/// step can be reached at once.
fn shuffled(stream: Stream, count: usize, place: usize) -> usize {
    // A Feistel network over the next even power of two, walked until it lands inside.
    let half_bits = (usize::BITS - (count.max(2) - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half_bits) - 1;
    let mut value = place as u64;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 0..4 {
            let mixed = stream.fork(round).bits(right) & mask;
            (left, right) = (right, left ^ mixed);
        }
        value = (left << half_bits) | right;
        if (value as usize) < count {
            return value as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_every_picture_once() {
        for count in [1, 2, 3, 10, 100, 257] {
            for epoch in 0..3 {
                let stream = Stream::named("loader", 1).fork(epoch);
                let mut seen: Vec<usize> = (0..count)
                    .map(|place| shuffled(stream, count, place))
                    .collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
            }
        }
        let order = |epoch| -> Vec<usize> {
            let stream = Stream::named("loader", 1).fork(epoch);
            (0..50).map(|place| shuffled(stream, 50, place)).collect()
        };
        assert_ne!(order(0), order(1));
    }
}
