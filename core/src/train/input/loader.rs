//! Background preparation of batches, in an order that is a function of the seed.

use super::augment::Augment;
use super::batch::{Batch, TrainSample};
use super::buckets::{Shape, buckets};
use super::order::Order;
use crate::config::{Config, ImageConfig};
use crate::data::{Dataset, LeftOut, OnProblem};
use crate::evaluate::usable::usable_image;
use crate::image::transform::padded_size;
use crate::random::Stream;
use crate::train::error::LoadError;
use crate::train::rank::Rank;
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Prepares batches ahead of the training step, several at once on `data.workers` threads; at most
/// `data.prefetch` batches are queued.
pub struct Loader {
    batches: Receiver<Receiver<Result<Batch, LoadError>>>,
}

impl Loader {
    /// Starts at step `first` of the configured run, with `rank`'s shard of each step's images.
    pub fn start(
        dataset: Arc<Dataset>,
        config: &Config,
        first: usize,
        rank: Rank,
    ) -> Result<Self, LoadError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.data.workers)
            // A panic is printed to standard error and ends the batch; rayon would abort the process.
            .panic_handler(|_| {})
            .build()?;
        let plan = Arc::new(Plan::new(dataset, config, rank));
        let steps = config.train.steps;
        // A batch in preparation counts: it is in the channel before its preparation starts.
        let (sender, batches) = sync_channel(config.data.prefetch);
        std::thread::spawn(move || {
            for step in first..steps {
                let (done, batch) = sync_channel(1);
                let plan = plan.clone();
                // The training loop has ended early and no longer receives batches.
                if sender.send(batch).is_err() {
                    return;
                }
                pool.spawn_fifo(move || {
                    let _ = done.send(plan.batch(step));
                });
            }
        });
        Ok(Self { batches })
    }

    /// The next batch; `None` after the last step.
    pub fn next_batch(&self) -> Option<Result<Batch, LoadError>> {
        let batch = self.batches.recv().ok()?.recv();
        // A thread that ends without a batch has panicked.
        Some(batch.unwrap_or(Err(LoadError::Panicked)))
    }
}

struct Plan {
    dataset: Arc<Dataset>,
    stream: Stream,
    order: Order,
    batch_size: usize,
    rank: Rank,
    augment: Augment,
    on_problem: OnProblem,
    image: ImageConfig,
}

impl Plan {
    fn new(dataset: Arc<Dataset>, config: &Config, rank: Rank) -> Self {
        let stream = Stream::named("loader", config.train.seed);
        let batch_size = config.train.batch_size;
        let buckets = buckets(&dataset, config);
        Self {
            order: Order::new(stream, dataset.samples.len(), batch_size, buckets),
            dataset,
            stream,
            batch_size,
            rank,
            augment: Augment::new(config),
            on_problem: config.data.on_problem,
            image: config.image.clone(),
        }
    }

    fn batch(&self, step: usize) -> Result<Batch, LoadError> {
        let places = self.rank.shard(self.batch_size);
        type Read = (Option<(usize, TrainSample)>, Vec<LeftOut>);
        let read: Result<Vec<Read>, LoadError> = places
            .into_par_iter()
            .map(|place| {
                let mut left_out = Vec::new();
                let sample = self.sample(step * self.batch_size + place, &mut left_out)?;
                Ok((sample.map(|sample| (place, sample)), left_out))
            })
            .collect();
        let (samples, left_out): (Vec<_>, Vec<_>) = read?.into_iter().unzip();
        let samples: Vec<_> = samples.into_iter().flatten().collect();
        let left_out = left_out.concat();
        // Ranks exchange whether any of them has an image.
        if samples.is_empty() && self.rank.world == 1 {
            return Err(LoadError::nothing_left(&left_out));
        }
        let mut batch = Batch::of_shard(samples, self.padded_size(step));
        batch.left_out = left_out;
        Ok(batch)
    }

    /// The random numbers for augmenting the image at `position`.
    fn numbers(&self, position: usize) -> Stream {
        self.stream.fork(!(position as u64))
    }

    /// Padded height and width of the whole step, the same on every rank: padding changes what a
    /// network computes near the border.
    fn padded_size(&self, step: usize) -> Shape {
        let positions = step * self.batch_size..(step + 1) * self.batch_size;
        if let Some(buckets) = self.order.buckets() {
            return buckets.shape(positions.map(|position| self.order.at(position)));
        }
        let sizes = positions.map(|position| {
            let sample = &self.dataset.samples[self.order.at(position)];
            let original = (sample.height, sample.width);
            self.augment
                .placement(original, self.numbers(position))
                .size
        });
        padded_size(sizes, self.image.size_divisor, self.image.smallest_batch())
    }

    /// The image at `position`, with copy-paste applied; `None` if it is left out. Images that cannot be used are added
    /// to `left_out`.
    fn sample(
        &self,
        position: usize,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<Option<TrainSample>, LoadError> {
        let stream = self.numbers(position);
        let Some(mut sample) = self.read(self.order.at(position), stream, left_out)? else {
            return Ok(None);
        };
        if let Some(index) = self.augment.source(self.dataset.samples.len(), stream)
            && let Some(source) = self.read(index, Augment::source_stream(stream), left_out)?
        {
            self.augment.paste(&mut sample, &source, stream);
        }
        Ok(Some(sample))
    }

    /// An image before copy-paste; `None` if it cannot be read and is left out.
    fn read(
        &self,
        index: usize,
        stream: Stream,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<Option<TrainSample>, LoadError> {
        let sample = &self.dataset.samples[index];
        let image = usable_image(sample, self.on_problem, left_out)?;
        Ok(image.map(|image| self.augment.prepare(image, sample, stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_an_error_of_its_batch() {
        let (sender, batches) = sync_channel(2);
        for panics in [true, false] {
            let (done, batch) = sync_channel::<Result<Batch, LoadError>>(1);
            sender.send(batch).unwrap();
            let prepared = std::thread::spawn(move || {
                assert!(!panics, "a bug in the preparation of a batch");
                let _ = done.send(Err(LoadError::NothingLeft {
                    left_out: String::new(),
                }));
            });
            assert_eq!(prepared.join().is_err(), panics);
        }
        drop(sender);
        let loader = Loader { batches };
        let panicked = loader.next_batch().unwrap().err().unwrap();
        assert!(matches!(panicked, LoadError::Panicked), "{panicked}");
        // The batches after it are still prepared.
        let next = loader.next_batch().unwrap().err().unwrap();
        assert!(matches!(next, LoadError::NothingLeft { .. }), "{next}");
        assert!(loader.next_batch().is_none());
    }
}
