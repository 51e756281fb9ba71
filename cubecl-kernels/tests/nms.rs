//! Suppression within groups of slots, on the processor and on the wgpu adapter, against [`nms`].

mod adapter;
mod random;

use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{nms, nms_sorted};
use random::Random;

impl Random {
    fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 16_777_216.0
    }

    /// Boxes of one of the kinds that suppression can stumble over.
    fn boxes(&mut self, count: usize) -> Vec<[f32; 4]> {
        let kind = self.below(6);
        let mut cell = |side: usize| self.below(side) as f32;
        match kind {
            // Small whole numbers: many ratios are equal, many equal the threshold.
            0 => (0..count)
                .map(|_| [cell(4), cell(4), 4.0 + cell(4), 4.0 + cell(4)])
                .collect(),
            // Lines, points and inverted boxes among others.
            1 => (0..count)
                .map(|_| [cell(6), cell(6), cell(6), cell(6)])
                .collect(),
            2 => vec![[1.0, 2.0, 3.0, 4.0]; count],
            // Areas beyond f32.
            3 => (0..count)
                .map(|_| {
                    [
                        -1e30 * cell(3),
                        -1e30 * cell(3),
                        1e30 * cell(3),
                        1e20 * cell(3),
                    ]
                })
                .collect(),
            // From dense to sparse.
            _ => {
                let spread = [20.0, 100.0, 1000.0][self.below(3)];
                let mut uniform = || self.uniform();
                (0..count)
                    .map(|_| {
                        let (x, y) = (spread * uniform(), spread * uniform());
                        let (w, h) = (1.0 + 40.0 * uniform(), 1.0 + 40.0 * uniform());
                        [x, y, x + w, y + h]
                    })
                    .collect()
            }
        }
    }

    /// Falling scores with empty slots among and behind them.
    fn scores(&mut self, count: usize) -> Vec<f32> {
        let filled = self.below(count + 1);
        let filled = if self.below(2) == 0 { count } else { filled };
        (0..count)
            .map(|slot| match self.below(10) {
                _ if slot >= filled => f32::NEG_INFINITY,
                0 => [f32::NEG_INFINITY, f32::NAN][self.below(2)],
                _ => (count - slot) as f32 / 3.0,
            })
            .collect()
    }
}

/// The survivors' scores as [`nms`] chooses them.
fn expected(boxes: &[[f32; 4]], scores: &[f32], threshold: f64) -> Vec<f32> {
    let filled: Vec<usize> = (0..scores.len())
        .filter(|&slot| scores[slot] > f32::NEG_INFINITY)
        .collect();
    let filled_boxes: Vec<[f32; 4]> = filled.iter().map(|&slot| boxes[slot]).collect();
    let filled_scores: Vec<f32> = filled.iter().map(|&slot| scores[slot]).collect();
    let mut kept = vec![f32::NEG_INFINITY; scores.len()];
    for survivor in nms(&filled_boxes, &filled_scores, threshold) {
        kept[filled[survivor]] = filled_scores[survivor];
    }
    kept
}

/// Compares every device with the oracle on `groups` random groups of `k` slots.
fn check(random: &mut Random, groups: usize, k: usize, devices: &[Device]) {
    let threshold = [0.0, 0.3, 0.5, 0.6, 0.7, 1.0][random.below(6)];
    let boxes: Vec<Vec<[f32; 4]>> = (0..groups).map(|_| random.boxes(k)).collect();
    let scores: Vec<Vec<f32>> = (0..groups).map(|_| random.scores(k)).collect();
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
    let card = adapter.iter().map(|adapter| adapter.device.clone());
    std::iter::once(Device::flex()).chain(card).collect()
}

#[test]
fn ten_thousand_random_groups() {
    let adapter = adapter::adapter();
    let devices = devices(&adapter);
    let mut random = Random(1);
    for round in 0..20 {
        check(
            &mut random,
            500,
            [1, 2, 31, 32, 33, 64, 70, 100][round % 8],
            &devices,
        );
    }
    for k in [255, 256, 257, 1000, 2047, 2048] {
        check(&mut random, 6, k, &devices);
    }
}

#[test]
fn no_slots() {
    let adapter = adapter::adapter();
    for device in devices(&adapter) {
        check(&mut Random(2), 3, 0, std::slice::from_ref(&device));
    }
}
