//! Indices of the k highest scores, on host memory.

use rayon::prelude::*;
use std::cmp::Ordering;
use std::ops::Range;

/// Indices of the `k` highest scores, best first; equal scores keep their order.
///
/// NaN ranks lowest, so that it never displaces a number. If `k` is larger than the number of scores, all are returned.
/// O(n + k log k).
pub fn top_k(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let k = k.min(order.len());
    if k == 0 {
        return Vec::new();
    }
    let by_score = |&a: &usize, &b: &usize| descending(scores[a], scores[b]).then(a.cmp(&b));
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, by_score);
        order.truncate(k);
    }
    order.sort_unstable_by(by_score);
    order
}

/// The best scores and their indices per segment of each row, row by row, in `k` slots per segment.
pub fn top_k_segments(
    scores: &[f32],
    [rows, total]: [usize; 2],
    segments: &[Range<usize>],
    k: usize,
) -> (Vec<f32>, Vec<i32>) {
    let slots = rows * segments.len() * k;
    let (mut best, mut indices) = (vec![f32::NEG_INFINITY; slots], vec![-1; slots]);
    best.par_chunks_mut(k)
        .zip(indices.par_chunks_mut(k))
        .enumerate()
        .for_each(|(job, (best, indices))| {
            let row = &scores[job / segments.len() * total..][..total];
            let segment = &segments[job % segments.len()];
            let found = top_k(&row[segment.clone()], k);
            for ((best, index), found) in best.iter_mut().zip(indices).zip(found) {
                *best = row[segment.start + found];
                *index = (segment.start + found) as i32;
            }
        });
    (best, indices)
}

#[cfg(feature = "flex")]
mod flex {
    use super::Range;
    use crate::flex::floats;
    use crate::top_k::TopKOps;
    use burn::backend::Flex;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    impl TopKOps for Flex {
        fn top_k_segments(
            scores: FloatTensor<Self>,
            segments: Vec<Range<usize>>,
            k: usize,
        ) -> (FloatTensor<Self>, IntTensor<Self>) {
            let scores = scores.to_contiguous();
            let shape = scores.layout().shape();
            let shape = [shape[0], shape[1]];
            let (best, indices) = super::top_k_segments(floats(&scores), shape, &segments, k);
            let shape = [shape[0], segments.len(), k];
            (
                FlexTensor::from_data(TensorData::new(best, shape)),
                FlexTensor::from_data(TensorData::new(indices, shape)),
            )
        }
    }
}

/// Orders high scores first and NaN last.
pub(crate) fn descending(a: f32, b: f32) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::top_k;

    #[test]
    fn best_first_with_stable_ties_and_nan_last() {
        let scores = [0.5, f32::NAN, 0.9, 0.5, -1.0, 0.9];
        assert_eq!(top_k(&scores, 4), [2, 5, 0, 3]);
        assert_eq!(top_k(&scores, 100), [2, 5, 0, 3, 4, 1]);
        assert!(top_k(&scores, 0).is_empty());
        assert!(top_k(&[], 3).is_empty());
    }

    #[test]
    fn agrees_with_a_full_sort() {
        let scores: Vec<f32> = (0..5000u32)
            .map(|i| (i.wrapping_mul(2654435761) >> 20) as f32)
            .collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        assert_eq!(top_k(&scores, 777), order[..777]);
    }
}
