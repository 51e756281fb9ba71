//! The order of the images: a function of the seed with random access by position.

use super::buckets::Buckets;
use crate::random::Stream;
use std::sync::{Arc, Mutex, PoisonError};

/// The endless order of images, epoch after epoch; each step takes `batch` positions.
#[derive(Debug)]
pub struct Order {
    stream: Stream,
    count: usize,
    batch: usize,
    buckets: Option<Buckets>,
    /// Cache of the epochs that were used last, with buckets.
    epochs: Mutex<Vec<(usize, Arc<Vec<usize>>)>>,
}

/// Index of an epoch's random stream for the order of its batches.
const BATCHES: u64 = 1 << 40;

impl Order {
    /// The order of `count` images.
    pub fn new(stream: Stream, count: usize, batch: usize, buckets: Option<Buckets>) -> Self {
        Self {
            stream,
            count,
            batch,
            buckets,
            epochs: Mutex::default(),
        }
    }

    /// The buckets, if there are any.
    pub fn buckets(&self) -> Option<&Buckets> {
        self.buckets.as_ref()
    }

    /// The image at `position`.
    pub fn at(&self, position: usize) -> usize {
        let (epoch, place) = (position / self.count, position % self.count);
        match &self.buckets {
            None => shuffled(self.stream.fork(epoch as u64), self.count, place),
            Some(buckets) => self.epoch(epoch, buckets)[place],
        }
    }

    fn epoch(&self, epoch: usize, buckets: &Buckets) -> Arc<Vec<usize>> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = epochs.iter().find(|(other, _)| *other == epoch) {
            return order.clone();
        }
        let order = Arc::new(self.grouped(epoch, buckets));
        // A batch may extend into the next epoch, and batches in preparation are a few steps apart.
        epochs.truncate(3);
        epochs.insert(0, (epoch, order.clone()));
        order
    }

    /// The images of an epoch, each once, such that each batch within the epoch contains images of one bucket.
    /// Images that are left over are in its first and last batch, which it shares with its
    /// neighbors, and in batches of several buckets.
    fn grouped(&self, epoch: usize, buckets: &Buckets) -> Vec<usize> {
        let stream = self.stream.fork(epoch as u64);
        let mut of_bucket = vec![Vec::new(); buckets.len()];
        for place in 0..self.count {
            let index = shuffled(stream, self.count, place);
            of_bucket[buckets.of(index)].push(index);
        }
        let begun = (epoch * self.count) % self.batch;
        let head = ((self.batch - begun) % self.batch).min(self.count);
        let whole = (self.count - head) / self.batch;
        let (mut batches, mut rest) = (Vec::new(), Vec::new());
        for images in of_bucket {
            let chunks = images.chunks_exact(self.batch);
            rest.extend_from_slice(chunks.remainder());
            for chunk in chunks {
                match batches.len() < whole {
                    true => batches.push(chunk.to_vec()),
                    false => rest.extend_from_slice(chunk),
                }
            }
        }
        let mut rest = rest.into_iter();
        let mut order: Vec<usize> = rest.by_ref().take(head).collect();
        while batches.len() < whole {
            batches.push(rest.by_ref().take(self.batch).collect());
        }
        let turns = stream.fork(BATCHES);
        order.extend((0..whole).flat_map(|turn| batches[shuffled(turns, whole, turn)].clone()));
        order.extend(rest);
        order
    }
}

/// The index, out of `count`, at `place` of an epoch: a keyed permutation without a list, for
/// random access to any step.
fn shuffled(stream: Stream, count: usize, place: usize) -> usize {
    // A Feistel network over the next power of two with an even exponent, repeated until the result is in range.
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

    fn is_permutation(mut visited: Vec<usize>) -> bool {
        visited.sort_unstable();
        visited.iter().copied().eq(0..visited.len())
    }

    #[test]
    fn an_epoch_visits_every_image_once() {
        for count in [1, 2, 3, 10, 100, 257] {
            let order = Order::new(Stream::named("loader", 1), count, 4, None);
            let epoch = |epoch: usize| -> Vec<usize> {
                let positions = epoch * count..(epoch + 1) * count;
                positions.map(|position| order.at(position)).collect()
            };
            assert!((0..3).all(|e| is_permutation(epoch(e))));
            assert!(count < 10 || epoch(0) != epoch(1));
        }
    }

    /// Two thirds of the images are landscape.
    fn buckets(count: usize) -> Buckets {
        let size = |index: usize| {
            if index.is_multiple_of(3) {
                (96, 64)
            } else {
                (64, 96)
            }
        };
        Buckets::new(&(0..count).map(size).collect::<Vec<_>>(), 3)
    }

    #[test]
    fn buckets_fill_batches_and_keep_epochs_whole() {
        for (count, batch) in [
            (1, 4),
            (3, 4),
            (8, 4),
            (100, 4),
            (101, 4),
            (257, 16),
            (50, 1),
        ] {
            let order = Order::new(
                Stream::named("loader", 1),
                count,
                batch,
                Some(buckets(count)),
            );
            let again = Order::new(
                Stream::named("loader", 1),
                count,
                batch,
                Some(buckets(count)),
            );
            let epochs = 5;
            let all: Vec<usize> = (0..epochs * count)
                .map(|position| order.at(position))
                .collect();
            assert!(
                all.chunks(count)
                    .all(|epoch| is_permutation(epoch.to_vec()))
            );
            // Backwards: no position depends on those before it.
            let back = (0..epochs * count).rev().map(|position| again.at(position));
            assert!(back.eq(all.iter().rev().copied()), "{count} by {batch}");
            let kinds = buckets(count);
            let is_mixed =
                |batch: &[usize]| batch.iter().any(|&i| kinds.of(i) != kinds.of(batch[0]));
            let mixed = all.chunks(batch).filter(|batch| is_mixed(batch)).count();
            // The leftovers of two buckets, and the batch between two epochs.
            assert!(mixed <= 3 * epochs, "{count} by {batch}: {mixed} are mixed");
        }
    }
}
