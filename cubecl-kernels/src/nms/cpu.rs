//! Greedy non-maximum suppression on host memory, within one class or per class.

use crate::top_k::descending;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Indices of the kept boxes, best score first.
///
/// `boxes` are `[x1, y1, x2, y2]` in any unit, with one of `scores` per box. A box is suppressed if its IoU with a
/// better kept box is *greater* than `iou_threshold`; the f32 ratio is compared in f64, as in torchvision's CPU
/// operator. Equal scores keep their order; boxes without area do not overlap (their ratio is NaN).
pub fn nms(boxes: &[[f32; 4]], scores: &[f32], iou_threshold: f64) -> Vec<usize> {
    suppress(boxes, by_score(scores, 0..scores.len()), iou_threshold)
}

/// [`nms`] within each class of `classes` (or level, or any group), merged best score first.
///
/// Boxes of different classes never suppress each other.
pub fn batched_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    classes: &[usize],
    iou_threshold: f64,
) -> Vec<usize> {
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, &class) in classes.iter().enumerate() {
        groups.entry(class).or_default().push(index);
    }
    let kept = groups
        .into_values()
        .flat_map(|group| suppress(boxes, by_score(scores, group), iou_threshold));
    by_score(scores, kept)
}

/// The scores of the kept slots in each group of `k`, and minus infinity for the others.
///
/// `boxes [g, k, 4]`, `scores [g, k]`, row-major, best first; minus infinity and NaN mark empty slots.
pub fn nms_sorted(boxes: &[f32], scores: &[f32], k: usize, iou_threshold: f64) -> Vec<f32> {
    let boxes = boxes.as_chunks::<4>().0;
    let mut kept = vec![f32::NEG_INFINITY; scores.len()];
    kept.par_chunks_mut(k.max(1))
        .zip(boxes.par_chunks(k.max(1)))
        .zip(scores.par_chunks(k.max(1)))
        .for_each(|((kept, boxes), scores)| {
            let valid = (0..k).filter(|&slot| scores[slot] > f32::NEG_INFINITY);
            for slot in suppress(boxes, valid.collect(), iou_threshold) {
                kept[slot] = scores[slot];
            }
        });
    kept
}

#[cfg(feature = "flex")]
mod flex {
    use crate::flex::floats;
    use crate::nms::NmsOps;
    use burn::backend::Flex;
    use burn::backend::tensor::FloatTensor;
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    impl NmsOps for Flex {
        fn nms_sorted(
            boxes: FloatTensor<Self>,
            scores: FloatTensor<Self>,
            iou_threshold: f64,
        ) -> FloatTensor<Self> {
            let (boxes, scores) = (boxes.to_contiguous(), scores.to_contiguous());
            let shape = scores.layout().shape().clone();
            let kept = super::nms_sorted(floats(&boxes), floats(&scores), shape[1], iou_threshold);
            FlexTensor::from_data(TensorData::new(kept, shape))
        }
    }
}

fn by_score(scores: &[f32], indices: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut order: Vec<usize> = indices.into_iter().collect();
    order.sort_by(|&a, &b| descending(scores[a], scores[b]).then(a.cmp(&b)));
    order
}

/// Keeps the boxes in `order` that no kept box suppresses. Kept boxes and areas are contiguous, so that the inner loop
/// is a linear scan.
fn suppress(boxes: &[[f32; 4]], order: Vec<usize>, iou_threshold: f64) -> Vec<usize> {
    let mut kept = Vec::new();
    let mut survivors: Vec<([f32; 4], f32)> = Vec::new();
    for index in order {
        let candidate = boxes[index];
        let area = (candidate[2] - candidate[0]) * (candidate[3] - candidate[1]);
        let covered = survivors.iter().any(|&(survivor, survivor_area)| {
            overlap(&survivor, survivor_area, &candidate, area) as f64 > iou_threshold
        });
        if !covered {
            kept.push(index);
            survivors.push((candidate, area));
        }
    }
    kept
}

/// IoU of boxes with known areas.
#[inline]
pub(crate) fn overlap(a: &[f32; 4], area_a: f32, b: &[f32; 4], area_b: f32) -> f32 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let intersection = width * height;
    intersection / (area_a + area_b - intersection)
}

#[cfg(test)]
mod tests {
    use super::{batched_nms, nms};

    const BOXES: [[f32; 4]; 3] = [
        [0.0, 0.0, 10.0, 10.0],
        [1.0, 1.0, 10.0, 10.0],
        [20.0, 20.0, 30.0, 30.0],
    ];

    #[test]
    fn the_better_box_wins() {
        assert_eq!(nms(&BOXES, &[0.5, 0.9, 0.7], 0.5), [1, 2]);
        assert!(nms(&[], &[], 0.5).is_empty());
    }

    #[test]
    fn classes_do_not_suppress_each_other() {
        assert_eq!(
            batched_nms(&BOXES, &[0.5, 0.9, 0.7], &[1, 2, 1], 0.5),
            [1, 2, 0]
        );
    }
}
