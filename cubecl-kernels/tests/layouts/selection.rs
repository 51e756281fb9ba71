//! Selection, targets and pasting.

use crate::layout::Layout;
use crate::random::Random;
use crate::{bits, boxes, check, words};
use burn::tensor::Device;
use mrcnn_kernels::{
    BitMasks, BoxDecoding, MaskWindow, MatchThresholds, PasteBatch, PasteWindow, decode_boxes,
    decode_proposals, mask_targets, match_boxes, nms_sorted, paste_masks, sampling_scores,
    sampling_seeds, top_k_segments,
};

#[test]
fn top_k() {
    let (rows, total, k) = (3, 777, 255);
    let scores = Random(1).values(rows * total);
    check(|layout, device| {
        let scores = layout.float(&scores, [rows, total], device);
        let (best, indices) = top_k_segments(scores, &[0..300, 300..777, 5..5], k);
        [bits(best), words(indices)].concat()
    });
}

#[test]
fn decoding() {
    let random = &mut Random(2);
    let (n, slots, total) = (3, 255, 301);
    let deltas = random.values(n * total * 4);
    let references = boxes(random, n * total);
    let scores = random.values(n * slots);
    let indices: Vec<i32> = (0..n * slots)
        .map(|_| random.below(total + 1) as i32 - 1)
        .collect();
    let sizes = [150.0, 170.0, 90.0, 200.0, 200.0, 33.0];
    let params = BoxDecoding {
        weights: [10.0, 10.0, 5.0, 5.0],
        max_log_scale: 4.0,
        min_size: 1.0,
    };
    check(|layout, device| {
        let found = [decode_boxes, decode_proposals].map(|decode| {
            let (boxes, kept) = decode(
                layout.float(&deltas, [n, total, 4], device),
                layout.float(&references, [n, total, 4], device),
                layout.float(&scores, [n, slots], device),
                layout.int(&indices, [n, slots], device),
                layout.float(&sizes, [n, 2], device),
                &params,
            );
            [bits(boxes), bits(kept)].concat()
        });
        found.concat()
    });
}

#[test]
fn suppression() {
    let random = &mut Random(3);
    let (groups, k) = (5, 255);
    let corners = boxes(random, groups * k);
    let scores: Vec<f32> = (0..groups * k).map(|slot| (k - slot % k) as f32).collect();
    check(|layout, device| {
        let boxes = layout.float(&corners, [groups, k, 4], device);
        bits(nms_sorted(
            boxes,
            layout.float(&scores, [groups, k], device),
            0.5,
        ))
    });
}

#[test]
fn matching_and_sampling() {
    let random = &mut Random(4);
    let (n, total, slots) = (3, 777, 13);
    let (candidates, gt) = (boxes(random, n * total), boxes(random, n * slots));
    let counts = [13, 0, 5];
    let thresholds = MatchThresholds {
        fg_iou: 0.5,
        bg_iou: 0.3,
        allow_low_quality: true,
    };
    check(|layout, device| {
        let matches = match_boxes(
            layout.float(&candidates, [n, total, 4], device),
            layout.float(&gt, [n, slots, 4], device),
            layout.int(&counts, [n], device),
            &thresholds,
        );
        words(matches)
    });
    let matches: Vec<i32> = (0..n * total).map(|_| random.below(5) as i32 - 2).collect();
    check(|layout, device| {
        let matches = layout.int(&matches, [n, total], device);
        let seeds = sampling_seeds(&[1, 2, u64::MAX], device);
        bits(sampling_scores(matches, seeds))
    });
}

/// Deltas, references, scores and ground truth that images share, as one expanded tensor.
#[test]
fn expanded_inputs() {
    let random = &mut Random(5);
    let (n, total, slots) = (3, 301, 255);
    let references = boxes(random, total);
    let deltas = random.values(total * 4);
    let scores = random.values(slots);
    let indices: Vec<i32> = (0..n * slots).map(|_| random.below(total) as i32).collect();
    let params = BoxDecoding {
        weights: [1.0; 4],
        max_log_scale: 4.0,
        min_size: 0.0,
    };
    let thresholds = MatchThresholds {
        fg_iou: 0.5,
        bg_iou: 0.5,
        allow_low_quality: true,
    };
    let run = |device: &Device, is_expanded: bool| {
        let shared = |values: &[f32], width: usize| {
            let one = Layout::Dense.float(values, [1, values.len() / width, width], device);
            if is_expanded {
                one.expand([n as i64, -1, -1])
            } else {
                one.repeat_dim(0, n)
            }
        };
        let scores = shared(&scores, 1).reshape([n, slots]);
        let (found, kept) = decode_boxes(
            shared(&deltas, 4),
            shared(&references, 4),
            scores.clone(),
            Layout::Dense.int(&indices, [n, slots], device),
            Layout::Dense.float(&[100.0; 6], [n, 2], device),
            &params,
        );
        let (best, best_indices) = top_k_segments(scores, &[0..slots, 3..200], 77);
        let matches = match_boxes(
            shared(&references, 4),
            shared(&references[..12], 4),
            Layout::Dense.int(&[3, 2, 1], [n], device),
            &thresholds,
        );
        let kept_best = nms_sorted(
            shared(&references, 4),
            shared(&references, 4)
                .slice([0..n, 0..total, 0..1])
                .reshape([n, total]),
            0.5,
        );
        [
            bits(found),
            bits(kept),
            bits(best),
            words(best_indices),
            words(matches),
            bits(kept_best),
        ]
        .concat()
    };
    let adapter = crate::adapter::adapter();
    let gpu = adapter.iter().map(|adapter| adapter.device.clone());
    for device in std::iter::once(Device::flex()).chain(gpu) {
        assert!(run(&device, true) == run(&device, false), "{device:?}");
    }
}

#[test]
fn mask_targets_and_pasting() {
    let random = &mut Random(6);
    let (n, slots, masks, side) = (2, 9, 3, 7);
    let mut table = BitMasks::default();
    for _ in 0..n * masks {
        let window = MaskWindow {
            origin: (5, 7),
            size: (33, 21),
            image: (100, 80),
        };
        let cells: Vec<u8> = (0..33 * 21).map(|_| random.below(2) as u8).collect();
        table.push(window, &cells);
    }
    let rois = boxes(random, n * slots);
    let matched: Vec<i32> = (0..n * slots)
        .map(|_| random.below(masks + 1) as i32 - 1)
        .collect();
    check(|layout, device| {
        bits(mask_targets(
            layout.float(&rois, [n, slots, 4], device),
            layout.int(&matched, [n, slots], device),
            table.upload(n, device),
            side,
        ))
    });
    let windows: Vec<PasteWindow> = boxes(random, 5)
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bbox| PasteWindow::new(*bbox, side, 150, 140))
        .collect();
    let probabilities: Vec<f32> = (0..5 * side * side)
        .map(|_| random.between(0.0, 1.0))
        .collect();
    check(|layout, device| {
        let masks = layout.float(&probabilities, [5, side, side], device);
        let batches = PasteBatch::plan(&windows, PasteBatch::WORDS);
        let pasted = batches
            .iter()
            .flat_map(|batch| words(paste_masks(masks.clone(), batch, 0.5)));
        pasted.collect()
    });
}
