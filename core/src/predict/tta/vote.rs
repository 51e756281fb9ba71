//! Merging of the boxes of several views.

use crate::boxes::{Bbox, iou};
use crate::model::ScoredBox;
use mrcnn_kernels::batched_nms;

/// A box of one view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Index of the view.
    pub view: usize,
    /// The box in pixels of the frame of all views.
    pub found: ScoredBox,
}

/// The boxes of `views` views, suppressed per class, best first and at most `most`.
///
/// Each kept box becomes the mean of the boxes of its class that overlap it by more than `iou_threshold`, weighted by
/// their scores. Its score is the mean over the views of the best score in each, 0 for a view without such a box.
pub(super) fn merged(
    mut candidates: Vec<Candidate>,
    views: usize,
    iou_threshold: f64,
    most: usize,
) -> Vec<ScoredBox> {
    candidates.sort_by(|a, b| b.found.score.total_cmp(&a.found.score));
    let boxes: Vec<Bbox> = candidates.iter().map(|other| other.found.bbox).collect();
    let scores: Vec<f32> = candidates.iter().map(|other| other.found.score).collect();
    let labels: Vec<usize> = candidates.iter().map(|other| other.found.label).collect();
    let kept = batched_nms(&boxes, &scores, &labels, iou_threshold);
    let voted = kept.into_iter().map(|index| {
        let voters = (0..candidates.len()).filter(|&other| {
            other == index
                || (labels[other] == labels[index]
                    && f64::from(iou(&boxes[index], &boxes[other])) > iou_threshold)
        });
        let voters: Vec<Candidate> = voters.map(|voter| candidates[voter]).collect();
        ScoredBox {
            bbox: mean_box(&voters),
            score: mean_score(&voters, views),
            ..candidates[index].found
        }
    });
    let mut voted: Vec<ScoredBox> = voted.collect();
    // Means are in another order than the scores of the kept boxes.
    voted.sort_by(|a, b| b.score.total_cmp(&a.score));
    voted.truncate(most);
    voted
}

/// The mean of boxes, weighted by their scores; the box itself if there is one.
fn mean_box(voters: &[Candidate]) -> Bbox {
    let (mut sum, mut weight) = ([0.0; 4], 0.0);
    for Candidate { found, .. } in voters {
        let score = f64::from(found.score);
        for (sum, side) in sum.iter_mut().zip(found.bbox) {
            *sum += score * f64::from(side);
        }
        weight += score;
    }
    match voters {
        // A single box is not rounded.
        [only] => only.found.bbox,
        _ => sum.map(|sum| (sum / weight) as f32),
    }
}

/// The mean over the views of their best scores. `voters` are sorted, best first.
fn mean_score(voters: &[Candidate], views: usize) -> f32 {
    let mut best = vec![0.0; views];
    for voter in voters.iter().rev() {
        best[voter.view] = f64::from(voter.found.score);
    }
    (best.iter().sum::<f64>() / views as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(view: usize, bbox: Bbox, label: usize, score: f32) -> Candidate {
        let found = ScoredBox { bbox, label, score };
        Candidate { view, found }
    }

    #[test]
    fn boxes_that_agree_are_averaged_by_their_scores() {
        let candidates = vec![
            candidate(0, [0.0, 0.0, 10.0, 10.0], 1, 0.25),
            candidate(1, [2.0, 0.0, 12.0, 10.0], 1, 0.75),
            // Another class in the same place, and another object of the class, each found in one view.
            candidate(0, [0.0, 0.0, 10.0, 10.0], 2, 0.5),
            candidate(1, [40.0, 0.0, 50.0, 10.0], 1, 0.875),
        ];
        let wanted = [
            candidate(1, [1.5, 0.0, 11.5, 10.0], 1, 0.5).found,
            candidate(1, [40.0, 0.0, 50.0, 10.0], 1, 0.4375).found,
            candidate(0, [0.0, 0.0, 10.0, 10.0], 2, 0.25).found,
        ];
        assert_eq!(merged(candidates.clone(), 2, 0.5, 10), wanted);
        assert_eq!(merged(candidates, 2, 0.5, 1), wanted[..1]);
    }

    #[test]
    fn a_view_votes_once_for_the_score() {
        let candidates = vec![
            candidate(0, [0.0, 0.0, 10.0, 10.0], 1, 0.75),
            candidate(0, [0.0, 0.0, 10.0, 10.0], 1, 0.25),
        ];
        let found = merged(candidates, 3, 0.5, 10);
        assert_eq!(found, [candidate(0, [0.0, 0.0, 10.0, 10.0], 1, 0.25).found]);
    }

    #[test]
    fn boxes_of_one_view_are_kept_bit_for_bit() {
        let third = 1.0 / 3.0;
        let candidates = vec![
            candidate(0, [third, 0.1, 10.3, 9.7], 1, 0.7),
            candidate(0, [30.1, third, 40.7, 9.7], 1, 0.7),
            candidate(0, [third, 0.1, 10.3, 9.7], 3, 0.3),
        ];
        let wanted: Vec<ScoredBox> = candidates.iter().map(|other| other.found).collect();
        assert_eq!(merged(candidates, 1, 0.5, 100), wanted);
        assert!(merged(Vec::new(), 6, 0.5, 100).is_empty());
    }
}
