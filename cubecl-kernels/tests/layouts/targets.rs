//! Matches and targets of samples, and the RPN's outputs.

use crate::random::Random;
use crate::{bits, boxes, check, words};
use mrcnn_kernels::{
    Choice, MatchThresholds, encode_boxes, flatten_rpn_outputs, gather_boxes, match_proposals,
    object_slots, roi_targets,
};
use std::ops::Range;

/// As [`boxes`], with sides of at least 1 pixel, whose logarithms are finite.
fn boxes_with_area(random: &mut Random, count: usize) -> Vec<f32> {
    let mut boxes = boxes(random, count);
    for [_, _, x2, y2] in boxes.as_chunks_mut::<4>().0 {
        *x2 += 1.0;
        *y2 += 1.0;
    }
    boxes
}

fn integers(random: &mut Random, count: usize, range: Range<i32>) -> Vec<i32> {
    let integers = (0..count).map(|_| range.start + random.below(range.len()) as i32);
    integers.collect()
}

#[test]
fn matching_of_proposals() {
    let random = &mut Random(12);
    let (n, total, slots) = (3, 301, 13);
    let (proposals, gt) = (boxes(random, n * total), boxes(random, n * slots));
    let mut scores = random.values(n * total);
    for padded in scores.iter_mut().step_by(5) {
        *padded = f32::NEG_INFINITY;
    }
    let thresholds = MatchThresholds {
        fg_iou: 0.5,
        bg_iou: 0.3,
        allow_low_quality: false,
    };
    check(|layout, device| {
        words(match_proposals(
            layout.float(&proposals, [n, total, 4], device),
            layout.float(&scores, [n, total], device),
            layout.float(&gt, [n, slots, 4], device),
            layout.int(&[13, 0, 5], [n], device),
            &thresholds,
        ))
    });
}

#[test]
fn targets_of_samples() {
    let random = &mut Random(13);
    let (n, total, slots, k) = (3, 301, 13, 27);
    let proposals = boxes_with_area(random, n * total);
    let references = boxes_with_area(random, n * (total + slots));
    let gt = boxes_with_area(random, n * slots);
    let labels = integers(random, n * slots, 1..80);
    let candidates = integers(random, n * k, 0..(total + slots) as i32);
    let matched = integers(random, n * k, -2..slots as i32);
    let is_object: Vec<f32> = matched.iter().map(|&m| f32::from(m >= 0)).collect();
    let weights = [10.0, 10.0, 5.0, 5.0];
    check(|layout, device| {
        let gt = || layout.float(&gt, [n, slots, 4], device);
        let proposals = layout.float(&proposals, [n, total, 4], device);
        let references = layout.float(&references, [n, total + slots, 4], device);
        let labels = layout.int(&labels, [n, slots], device);
        let choice = Choice {
            candidates: layout.int(&candidates, [n, k], device),
            matched: layout.int(&matched, [n, k], device),
            is_object: layout.float(&is_object, [n, k], device),
            valid: layout.float(&is_object, [n, k], device),
        };
        let targets = roi_targets(proposals, gt(), labels, &choice, weights);
        [
            bits(targets.boxes),
            bits(targets.deltas),
            words(targets.labels),
            bits(encode_boxes(gt(), references, &choice, weights)),
            bits(gather_boxes(gt(), choice.matched.clone())),
        ]
        .concat()
    });
}

#[test]
fn slots_of_objects() {
    let random = &mut Random(14);
    let (n, k, count) = (3, 27, 9);
    let corners = boxes(random, n * k);
    let labels = integers(random, n * k, 0..80);
    let matched = integers(random, n * k, -2..13);
    let is_object: Vec<f32> = matched.iter().map(|&m| f32::from(m >= 0)).collect();
    check(|layout, device| {
        let choice = Choice {
            candidates: layout.int(&labels, [n, k], device),
            matched: layout.int(&matched, [n, k], device),
            is_object: layout.float(&is_object, [n, k], device),
            valid: layout.float(&is_object, [n, k], device),
        };
        let corners = layout.float(&corners, [n, k, 4], device);
        let labels = layout.int(&labels, [n, k], device);
        let slots = object_slots(corners, labels, &choice, count);
        [
            bits(slots.boxes),
            words(slots.labels),
            words(slots.matched),
            bits(slots.is_object),
        ]
        .concat()
    });
}

#[test]
fn outputs_of_the_rpn() {
    let random = &mut Random(15);
    let n = 2;
    for per_cell in [1, 3] {
        let outputs = 5 * per_cell;
        let levels = [[5, 7], [3, 4], [1, 1]].map(|[h, w]| {
            let shape: [usize; 4] = [n, outputs, h, w];
            (shape, random.values(shape.iter().product()))
        });
        check(|layout, device| {
            let levels = levels.iter();
            let levels = levels.map(|(shape, values)| layout.float(values, *shape, device));
            let (logits, deltas) = flatten_rpn_outputs(levels.collect());
            [bits(logits), bits(deltas)].concat()
        });
    }
}
