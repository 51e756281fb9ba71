//! Balanced random sampling of objects and background.

use super::Match;
use crate::random::Stream;
use mrcnn_kernels::sampling_key;

/// Indices of the sampled candidates, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Candidates that are objects.
    pub objects: Vec<usize>,
    /// Candidates that are background.
    pub background: Vec<usize>,
}

impl Sampled {
    /// All sampled candidates in ascending order.
    pub fn all(&self) -> Vec<usize> {
        let mut all = [self.objects.as_slice(), &self.background].concat();
        all.sort_unstable();
        all
    }

    /// Number of sampled candidates.
    pub fn len(&self) -> usize {
        self.objects.len() + self.background.len()
    }

    /// Whether no candidate was sampled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Samples up to `count` of `matches`: a fraction of at most `positive_fraction` objects, and background for the rest.
///
/// The random key of a candidate is a function of `stream` and its index alone, so the sample does not depend on the
/// order of evaluation, and equals that of [`mrcnn_kernels::sampling_scores`].
pub fn sample_balanced(
    matches: &[Match],
    count: usize,
    positive_fraction: f64,
    stream: Stream,
) -> Sampled {
    let indices = |is_wanted: fn(&Match) -> bool| -> Vec<usize> {
        (0..matches.len())
            .filter(|&i| is_wanted(&matches[i]))
            .collect()
    };
    let objects = indices(|m| matches!(m, Match::Object(_)));
    let background = indices(|m| *m == Match::Background);
    let object_count = ((count as f64 * positive_fraction) as usize).min(objects.len());
    Sampled {
        background: sample(background, count - object_count, stream),
        objects: sample(objects, object_count, stream),
    }
}

/// The `count` candidates with the smallest random keys, ascending.
fn sample(mut candidates: Vec<usize>, count: usize, stream: Stream) -> Vec<usize> {
    let seed = stream.seed();
    if count < candidates.len() {
        candidates.select_nth_unstable_by_key(count, |&i| (sampling_key(seed, i as u64), i));
        candidates.truncate(count);
        candidates.sort_unstable();
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_the_requested_fraction_and_is_reproducible() {
        let mut matches = vec![Match::Background; 1000];
        matches[..100].fill(Match::Object(0));
        matches[100..200].fill(Match::Ignored);
        let stream = Stream::named("roi", 3);
        let sampled = sample_balanced(&matches, 64, 0.25, stream);
        assert_eq!((sampled.objects.len(), sampled.background.len()), (16, 48));
        assert!(sampled.objects.iter().all(|&i| i < 100));
        assert!(sampled.background.iter().all(|&i| i >= 200));
        assert_eq!(sampled, sample_balanced(&matches, 64, 0.25, stream));
        assert_ne!(sampled, sample_balanced(&matches, 64, 0.25, stream.fork(1)));
    }

    #[test]
    fn background_fills_up_for_missing_objects() {
        let matches = [Match::Object(0), Match::Background, Match::Background];
        let sampled = sample_balanced(&matches, 512, 0.25, Stream::named("roi", 0));
        assert_eq!((sampled.objects.len(), sampled.len()), (1, 3));
        assert_eq!(sampled.all(), [0, 1, 2]);
        assert!(sample_balanced(&[], 512, 0.25, Stream::named("roi", 0)).is_empty());
    }
}
