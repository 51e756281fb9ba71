//! The indices of the k highest scores.

use std::cmp::Ordering;

/// Indices of the `k` highest of `scores`, best first; equal scores keep their order.
///
/// NaN ranks lowest, so that a diverged score can never push out a real one. `k` larger than the
/// number of scores returns them all. O(n + k log k).
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
