//! Greedy non-maximum suppression on host memory, within one class or per class.

use crate::top_k::descending;
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

fn by_score(scores: &[f32], indices: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut order: Vec<usize> = indices.into_iter().collect();
    order.sort_by(|&a, &b| descending(scores[a], scores[b]).then(a.cmp(&b)));
    order
}

/// Keeps the boxes in `order` that no kept box suppresses.
#[inline(always)]
pub(super) fn suppress(boxes: &[[f32; 4]], order: Vec<usize>, iou_threshold: f64) -> Vec<usize> {
    let mut kept = Vec::new();
    let mut survivors: Vec<Group> = Vec::new();
    for index in order {
        let candidate = boxes[index];
        let area = (candidate[2] - candidate[0]) * (candidate[3] - candidate[1]);
        let covers = |group: &Group| group.covers(&candidate, area, iou_threshold);
        if !survivors.iter().any(covers) {
            let slot = kept.len() % GROUP;
            if slot == 0 {
                survivors.push(Group::EMPTY);
            }
            if let Some(group) = survivors.last_mut() {
                group.put(slot, &candidate, area);
            }
            kept.push(index);
        }
    }
    kept
}

/// Boxes that a candidate is compared with at a time, in one vector.
const GROUP: usize = 16;

/// Coordinates and areas of kept boxes; NaN in free slots, which cover nothing.
struct Group {
    corners: [[f32; GROUP]; 4],
    areas: [f32; GROUP],
}

impl Group {
    const EMPTY: Self = Self {
        corners: [[f32::NAN; GROUP]; 4],
        areas: [f32::NAN; GROUP],
    };

    fn put(&mut self, slot: usize, corners: &[f32; 4], area: f32) {
        for (values, corner) in self.corners.iter_mut().zip(corners) {
            values[slot] = *corner;
        }
        self.areas[slot] = area;
    }

    /// Whether one of the boxes suppresses the candidate.
    #[inline(always)]
    fn covers(&self, candidate: &[f32; 4], area: f32, iou_threshold: f64) -> bool {
        let [x1, y1, x2, y2] = &self.corners;
        let mut covered = false;
        for slot in 0..GROUP {
            let kept = [x1[slot], y1[slot], x2[slot], y2[slot]];
            let iou = overlap(&kept, self.areas[slot], candidate, area);
            covered |= iou as f64 > iou_threshold;
        }
        covered
    }
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
