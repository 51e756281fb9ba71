//! Suppression in groups of slots, on the CPU and on the wgpu adapter, compared with [`nms`].

mod adapter;
mod random;

use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{nms, nms_sorted};
use random::Random;

/// Boxes of one kind of difficult cases.
fn boxes(random: &mut Random, count: usize) -> Vec<[f32; 4]> {
    let kind = random.below(6);
    let spread = random.pick(&[20.0, 100.0, 1000.0]);
    let equal = [1.0, 2.0, 3.0, 4.0];
    let mut draw = || {
        let mut cell = |side: usize| random.below(side) as f32;
        match kind {
            // Small integers: many ratios are equal, and many equal the threshold.
            0 => [cell(4), cell(4), 4.0 + cell(4), 4.0 + cell(4)],
            // Lines, points and inverted boxes among others.
            1 => [cell(6), cell(6), cell(6), cell(6)],
            2 => equal,
            // Areas beyond f32.
            3 => [
                -1e30 * cell(3),
                -1e30 * cell(3),
                1e30 * cell(3),
                1e20 * cell(3),
            ],
            // From dense to sparse.
            _ => {
                let mut uniform = || random.between(0.0, 1.0);
                let (x, y) = (spread * uniform(), spread * uniform());
                let (w, h) = (1.0 + 40.0 * uniform(), 1.0 + 40.0 * uniform());
                [x, y, x + w, y + h]
            }
        }
    };
    (0..count).map(|_| draw()).collect()
}

/// Decreasing scores, the first sometimes infinite, with empty slots between and after them.
fn scores(random: &mut Random, count: usize) -> Vec<f32> {
    let valid = random.below(count + 1);
    let valid = if random.below(2) == 0 { count } else { valid };
    (0..count)
        .map(|slot| match random.below(10) {
            _ if slot >= valid => f32::NEG_INFINITY,
            0 => random.pick(&[f32::NEG_INFINITY, f32::NAN]),
            1 if slot == 0 => f32::INFINITY,
            _ => (count - slot) as f32 / 3.0,
        })
        .collect()
}

/// The scores of the boxes that [`nms`] keeps.
fn expected(boxes: &[[f32; 4]], scores: &[f32], threshold: f64) -> Vec<f32> {
    let valid: Vec<usize> = (0..scores.len())
        .filter(|&slot| scores[slot] > f32::NEG_INFINITY)
        .collect();
    let valid_boxes: Vec<[f32; 4]> = valid.iter().map(|&slot| boxes[slot]).collect();
    let valid_scores: Vec<f32> = valid.iter().map(|&slot| scores[slot]).collect();
    let mut kept = vec![f32::NEG_INFINITY; scores.len()];
    for survivor in nms(&valid_boxes, &valid_scores, threshold) {
        kept[valid[survivor]] = valid_scores[survivor];
    }
    kept
}

/// Compares every device with the reference on `groups` random groups of `k` slots.
fn check(random: &mut Random, groups: usize, k: usize, devices: &[Device]) {
    let threshold = random.pick(&[0.0, 0.3, 0.5, 0.6, 0.7, 1.0]);
    let boxes: Vec<Vec<[f32; 4]>> = (0..groups).map(|_| boxes(random, k)).collect();
    let scores: Vec<Vec<f32>> = (0..groups).map(|_| scores(random, k)).collect();
    for device in devices {
        let values = boxes.concat().into_flattened();
        let kept = nms_sorted(
            Tensor::from_data(TensorData::new(values, [groups, k, 4]), device),
            Tensor::from_data(TensorData::new(scores.concat(), [groups, k]), device),
            threshold,
        );
        assert_eq!(kept.dims(), [groups, k]);
        let kept: Vec<f32> = kept.into_data().iter::<f32>().collect();
        for (group, kept) in kept.chunks(k.max(1)).enumerate() {
            let expected = expected(&boxes[group], &scores[group], threshold);
            if let Some(slot) = (0..k).find(|&slot| kept[slot] != expected[slot]) {
                panic!(
                    "{device:?}, threshold {threshold}: slot {slot} of {k} in group {group}, {:?}: \
                     {}, not {}",
                    boxes[group][slot], kept[slot], expected[slot]
                );
            }
        }
    }
}

fn devices(adapter: &Option<adapter::Adapter>) -> Vec<Device> {
    let gpu = adapter.iter().map(|adapter| adapter.device.clone());
    std::iter::once(Device::flex()).chain(gpu).collect()
}

/// Groups and slots per group; two entries have 65,536 boxes in total.
const SIZES: [(usize, usize); 15] = [
    (500, 1),
    (500, 2),
    (500, 31),
    (32, 2048),
    (500, 32),
    (500, 33),
    (256, 256),
    (500, 64),
    (60, 255),
    (60, 257),
    (500, 70),
    (500, 100),
    (6, 1000),
    (4, 2047),
    (700, 9),
];

#[test]
fn ten_thousand_random_groups() {
    let adapter = adapter::adapter();
    let devices = devices(&adapter);
    random::cases("NMS", SIZES.len(), |random, round| {
        let (groups, k) = SIZES[round % SIZES.len()];
        check(random, groups, k, &devices);
        groups
    });
}

#[test]
fn no_slots() {
    let adapter = adapter::adapter();
    for device in devices(&adapter) {
        check(&mut Random(2), 3, 0, std::slice::from_ref(&device));
    }
}
