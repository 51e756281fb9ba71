//! The choice of samples among scored candidates: objects first, background for the rest.

use crate::matching::{BACKGROUND, IGNORED};
use crate::upload::upload_range;
use burn::tensor::{Int, Tensor};

/// Sampled candidates of `n` images in `k` slots.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Index of the candidate; 0 in padded slots, `[n, k]`.
    pub candidates: Tensor<2, Int>,
    /// Slot of the object's ground truth, [`BACKGROUND`], or [`IGNORED`] in padded slots, `[n, k]`.
    pub matched: Tensor<2, Int>,
    /// 1 for objects, 0 elsewhere, f32, `[n, k]`.
    pub is_object: Tensor<2>,
    /// 1 for samples, 0 for padding, f32, `[n, k]`.
    pub valid: Tensor<2>,
}

/// Chooses `k` candidates per image: at most `quota` objects, and background for the rest.
///
/// * `scores`, `best` - of [`top_k_segments`](crate::top_k_segments) of [`sampling_scores`](crate::sampling_scores),
///   `[n, 2, k]`: the objects first, then the background.
/// * `matches` - `[n, b]`, from [`match_boxes`](crate::match_boxes).
/// * `quota` - maximum number of objects per image.
///
/// # Panics
///
/// If the shapes do not match.
pub fn choose_samples(
    scores: Tensor<3>,
    best: Tensor<3, Int>,
    matches: Tensor<2, Int>,
    quota: usize,
) -> Choice {
    let [n, kinds, k] = scores.dims();
    assert_eq!(
        (best.dims(), matches.dims()[0], kinds),
        ([n, 2, k], n, 2),
        "choose_samples: scores and indices of two kinds per image"
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    {
        let has_elements = n * k * matches.dims()[1] > 0;
        if crate::capability::is_plain_gpu_f32(&scores) && has_elements {
            let ([candidates, matched], [is_object, valid]) =
                super::choice_cube::choose(scores, best, matches, quota);
            return Choice {
                candidates,
                matched,
                is_object,
                valid,
            };
        }
    }
    by_operations(scores, best, matches, quota)
}

/// The index of no candidate; it stays negative, and within i32, when the number of candidates is subtracted.
const NONE: i64 = -(1 << 30);

pub(super) fn by_operations(
    scores: Tensor<3>,
    best: Tensor<3, Int>,
    matches: Tensor<2, Int>,
    quota: usize,
) -> Choice {
    let ([n, _, count], [_, total]) = (scores.dims(), matches.dims());
    let device = matches.device();
    // If there are fewer than `count`, the remaining slots have no candidate of this kind.
    let best = best.mask_fill(scores.equal_elem(f32::NEG_INFINITY), NONE);
    let kind = |kind: usize| best.clone().narrow(1, kind, 1).reshape([n, count]);
    let (objects, background) = (kind(0), kind(1) - total as i64);
    let found = objects.clone().greater_equal_elem(0).int().sum_dim(1);
    let found = found.clamp_max(quota as i64).expand([n, count]);
    let slots = upload_range(count, &device).expand([n, count]);
    let is_object = slots.clone().lower(found.clone());
    let background = background.gather(1, (slots - found).clamp_min(0));
    let chosen = background.mask_where(is_object, objects);
    let valid = chosen.clone().greater_equal_elem(0);
    let candidates = chosen.clamp_min(0);
    let matched = matches.gather(1, candidates.clone());
    let matched = matched.mask_fill(valid.clone().bool_not(), i64::from(IGNORED));
    const { assert!(IGNORED < 0 && BACKGROUND < 0) };
    Choice {
        candidates,
        is_object: matched.clone().greater_equal_elem(0).float(),
        matched,
        valid: valid.float(),
    }
}
