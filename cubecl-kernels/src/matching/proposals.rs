//! Matching of proposals together with the ground truth, which is added to the proposals in training.

use super::{IGNORED, MatchThresholds, match_boxes};
use crate::upload::upload_range;
use burn::tensor::{Int, IntDType, Tensor};

/// Matches each proposal, and then each ground truth itself, to the ground truth of its image with the highest IoU.
///
/// * `proposals` - `[n, b, 4]`, in pixels; boxes as in [`match_boxes`].
/// * `scores` - `[n, b]`; minus infinity marks a padded slot, and none may be NaN.
/// * `gt` - `[n, t, 4]`, of which the first `counts [n]` are valid.
///
/// Returns `[n, b + t]`: the index of an object, [`BACKGROUND`](super::BACKGROUND) or [`IGNORED`]. Padded slots are
/// [`IGNORED`].
///
/// # Panics
///
/// If the shapes do not match, as [`match_boxes`], or if `thresholds` allow low-quality matches: every ground truth
/// is a candidate and matches itself.
pub fn match_proposals(
    proposals: Tensor<3>,
    scores: Tensor<2>,
    gt: Tensor<3>,
    counts: Tensor<1, Int>,
    thresholds: &MatchThresholds,
) -> Tensor<2, Int> {
    let ([n, slots, _], [_, total, _]) = (gt.dims(), proposals.dims());
    assert_eq!(
        (proposals.dims(), scores.dims(), gt.dims(), counts.dims()),
        ([n, total, 4], [n, total], [n, slots, 4], [n]),
        "match_proposals: proposals [n, b, 4], scores [n, b], gt [n, t, 4] and counts [n]"
    );
    assert!(
        !thresholds.allow_low_quality,
        "match_proposals: low-quality matches are for anchors; set allow_low_quality to false"
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    {
        use crate::capability::is_plain_gpu_f32;
        let has_elements = n * total * slots > 0 && n <= u16::MAX as usize;
        if is_plain_gpu_f32(&proposals) && is_plain_gpu_f32(&scores) && has_elements {
            return super::proposals_cube::matches(proposals, scores, gt, counts, thresholds);
        }
    }
    let is_proposal = scores.greater_elem(f32::NEG_INFINITY);
    let places = upload_range(slots, &counts.device()).cast(IntDType::I32);
    let places = places.expand([n, slots]);
    let counts = counts.cast(IntDType::I32);
    let ends = counts.clone().unsqueeze_dim::<2>(1).expand([n, slots]);
    let candidates = Tensor::cat(vec![proposals, gt.clone()], 1);
    let is_candidate = Tensor::cat(vec![is_proposal, places.lower(ends)], 1);
    let matches = match_boxes(candidates, gt, counts, thresholds);
    matches.mask_fill(is_candidate.bool_not(), IGNORED)
}
