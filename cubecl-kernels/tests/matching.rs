//! Matching and sampling scores on the wgpu adapter, bit-equal to the CPU.
//!
//! Corners are integers, so that areas are exact and an IoU is rounded once, in its division. Both sides must then give
//! the same matches, including equal IoUs.

mod adapter;
mod random;

use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::{
    BACKGROUND, IGNORED, MatchThresholds, match_boxes, sampling_key, sampling_scores,
    sampling_seeds,
};
use random::Random;

const THRESHOLDS: [MatchThresholds; 2] = [
    MatchThresholds {
        fg_iou: 0.7,
        bg_iou: 0.3,
        allow_low_quality: true,
    },
    MatchThresholds {
        fg_iou: 0.5,
        bg_iou: 0.5,
        allow_low_quality: false,
    },
];

/// A batch of images: boxes and ground truths per image.
struct Batch {
    total: usize,
    slots: usize,
    shared: bool,
    boxes: Vec<f32>,
    gt: Vec<f32>,
    counts: Vec<i32>,
}

/// Small, large, huge and empty boxes, many of them equal.
fn bbox(random: &mut Random) -> [f32; 4] {
    let reach = random.pick(&[4, 16, 300, 2000]);
    let [x, y, w, h] = [0; 4].map(|_| random.below(reach) as f32);
    match random.below(12) {
        0 => [x, y, x, y + h],
        1 => [x - 1000.0, y - 1000.0, x + 1000.0, y + 1000.0],
        2 => [x, y, x, y],
        _ => [x, y, x + w, y + h],
    }
}

fn batch(random: &mut Random, n: usize, total: usize, slots: usize) -> Batch {
    let shared = random.below(2) == 0;
    let batch = if shared { 1 } else { n };
    let mut draw = |count: usize| -> Vec<f32> { (0..count).flat_map(|_| bbox(random)).collect() };
    let (boxes, gt) = (draw(batch * total), draw(n * slots));
    let counts = (0..n).map(|_| random.below(slots + 1) as i32).collect();
    Batch {
        total,
        slots,
        shared,
        boxes,
        gt,
        counts,
    }
}

fn matches(batch: &Batch, thresholds: &MatchThresholds, device: &Device) -> Vec<i32> {
    let n = batch.counts.len();
    let first = if batch.shared { 1 } else { n };
    let boxes = TensorData::new(batch.boxes.clone(), [first, batch.total, 4]);
    let gt = TensorData::new(batch.gt.clone(), [n, batch.slots, 4]);
    let found = match_boxes(
        Tensor::from_data(boxes, device),
        Tensor::from_data(gt, device),
        Tensor::from_data(TensorData::new(batch.counts.clone(), [n]), device),
        thresholds,
    );
    found.into_data().iter::<i32>().collect()
}

#[test]
fn the_adapter_equals_the_cpu() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    // Images, boxes per image and ground truths per image.
    let mut sizes = vec![(1, 65_536, 300), (1, 65_536, 1)];
    for total in [1, 2, 31, 255, 256, 257, 600] {
        for slots in [1, 2, 63, 64, 65, 257] {
            let n = if slots > 100 { 100 } else { 290 };
            sizes.push((n, total, slots));
        }
    }
    let mut kinds = [0usize; 3];
    let done = random::cases("matching", sizes.len(), |random, round| {
        let (n, total, slots) = sizes[round % sizes.len()];
        let batch = batch(random, n, total, slots);
        for thresholds in &THRESHOLDS {
            let found = matches(&batch, thresholds, &adapter.device);
            let wanted = matches(&batch, thresholds, &Device::flex());
            assert!(found == wanted, "{n} images, {total} boxes, {slots} slots");
            for found in found {
                match found {
                    IGNORED => kinds[2] += 1,
                    BACKGROUND => kinds[1] += 1,
                    index => {
                        assert!((0..slots as i32).contains(&index));
                        kinds[0] += 1;
                    }
                }
            }
        }
        n
    });
    println!("{kinds:?} objects, background, ignored");
    assert!(done < random::CASES || kinds.iter().all(|&kind| kind > 1000));
}

#[test]
fn low_quality_matches_are_allowed_and_ties_go_to_the_first() {
    let device = Device::flex();
    let found = |counts: [i32; 1]| -> Vec<i32> {
        let gt = [[0., 0., 4., 4.], [0., 0., 4., 4.], [100., 100., 101., 110.]];
        let boxes = [[0., 0., 4., 4.], [2., 0., 6., 4.], [100., 100., 110., 110.]];
        let found = match_boxes(
            Tensor::<3>::from_data([boxes], &device),
            Tensor::<3>::from_data([gt], &device),
            Tensor::<1, Int>::from_data(counts, &device),
            &THRESHOLDS[0],
        );
        found.into_data().iter::<i32>().collect()
    };
    // The third box has an IoU of a tenth with the third object, which is its highest.
    assert_eq!(found([3]), [0, IGNORED, 2]);
    assert_eq!(found([2]), [0, IGNORED, BACKGROUND]);
    assert_eq!(found([0]), [BACKGROUND; 3]);
}

#[test]
fn sampling_scores_are_bit_equal_on_all_devices() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    random::cases("sampling", 6, |random, round| {
        let (n, total) = [
            (1, 65_536),
            (1, 1),
            (3, 255),
            (800, 256),
            (900, 257),
            (2000, 9),
        ][round % 6];
        let seeds: Vec<u64> = (0..n)
            .map(|i| if i == 0 { u64::MAX - 3 } else { random.bits() })
            .collect();
        let matches: Vec<i32> = (0..n * total)
            .map(|_| random.below(5) as i32 + IGNORED)
            .collect();
        let scores = |device: &Device| -> Vec<u32> {
            let matches = TensorData::new(matches.clone(), [n, total]);
            let matches = Tensor::<2, Int>::from_data(matches, device);
            let scores = sampling_scores(matches, sampling_seeds(&seeds, device)).into_data();
            scores.iter::<f32>().map(f32::to_bits).collect()
        };
        let found = scores(&adapter.device);
        assert!(found == scores(&Device::flex()), "{n} images of {total}");
        for (candidate, &kind) in matches.iter().enumerate() {
            let (image, index) = (candidate / total, candidate % total);
            let key = sampling_key(seeds[image], index as u64);
            let score = (1.0 - key as f32 / 16_777_216.0).to_bits();
            let none = f32::NEG_INFINITY.to_bits();
            let objects = if kind >= 0 { score } else { none };
            let background = if kind == BACKGROUND { score } else { none };
            let row = &found[image * 2 * total..][..2 * total];
            assert_eq!([row[index], row[total + index]], [objects, background]);
        }
        n
    });
}
