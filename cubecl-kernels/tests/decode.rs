//! Box decoding on the CPU and the wgpu adapter, compared with [`decode_box`] slot by slot.

mod adapter;
mod random;

use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::{BoxDecoding, decode_box, decode_boxes};
use random::Random;

const PARAMS: [BoxDecoding; 2] = [
    BoxDecoding {
        weights: [10.0, 10.0, 5.0, 5.0],
        max_log_scale: 4.135_166_6,
        min_size: 1.0,
    },
    BoxDecoding {
        weights: [1.0; 4],
        max_log_scale: 4.135_166_6,
        min_size: 0.0,
    },
];

/// `exp` and division may be off by a few units in the last place, for boxes up to 1e5 pixels; the few
/// larger ones extend beyond the image and are clipped.
const TOLERANCE: f32 = 1e-2;

/// The inputs of a launch.
struct Batch {
    /// Images, slots per image, deltas per image, images with separate references, references.
    shape: [usize; 5],
    deltas: Vec<f32>,
    references: Vec<f32>,
    scores: Vec<f32>,
    indices: Vec<i32>,
    /// Height and width.
    sizes: Vec<f32>,
}

/// A delta; one in twenty is invalid or huge.
fn delta(random: &mut Random) -> f32 {
    match random.below(100) {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => 1e38,
        4 => -1e38,
        5..50 => random.between(-15.0, 15.0),
        _ => random.between(-1.0, 1.0),
    }
}

/// A box; some are points, lines, inverted or huge.
fn reference(random: &mut Random) -> [f32; 4] {
    let [x, y] = [0; 2].map(|_| random.between(0.0, 400.0));
    let [w, h] = [0; 2].map(|_| random.between(-20.0, 180.0));
    match random.below(20) {
        0 => [x, y, x, y],
        1 => [x, y, x, y + h],
        2 => [x - 1e4, y - 1e4, x + 1e4, y + 1e4],
        _ => [x, y, x + w, y + h],
    }
}

fn batch(random: &mut Random, n: usize, slots: usize) -> Batch {
    let own = random.pick(&[1, n]);
    let references = random.pick(&[1, 255, 300]);
    let deltas = references * random.pick(&[1, 3]);
    let score = |random: &mut Random| match random.below(31) {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        _ => random.between(0.0, 1.0),
    };
    Batch {
        shape: [n, slots, deltas, own, references],
        deltas: (0..n * deltas * 4).map(|_| delta(random)).collect(),
        references: (0..own * references)
            .flat_map(|_| reference(random))
            .collect(),
        scores: (0..n * slots).map(|_| score(random)).collect(),
        indices: (0..n * slots)
            .map(|_| random.below(deltas + deltas / 16 + 1).min(deltas) as i32)
            .map(|index| if index == deltas as i32 { -1 } else { index })
            .collect(),
        sizes: (0..2 * n)
            .map(|_| random.pick(&[1.0, 50.0, 480.0, 2000.0]))
            .collect(),
    }
}

impl Batch {
    /// Boxes and scores as a device decodes them.
    fn decoded(&self, params: &BoxDecoding, device: &Device) -> (Vec<[f32; 4]>, Vec<f32>) {
        let [n, slots, deltas, own, references] = self.shape;
        let tensor = |values: &[f32], shape| {
            Tensor::<3>::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let indices = TensorData::new(self.indices.clone(), [n, slots]);
        let (boxes, kept) = decode_boxes(
            tensor(&self.deltas, [n, deltas, 4]),
            tensor(&self.references, [own, references, 4]),
            tensor(&self.scores, [1, n, slots]).reshape([n, slots]),
            Tensor::<2, Int>::from_data(indices, device),
            tensor(&self.sizes, [1, n, 2]).reshape([n, 2]),
            params,
        );
        let boxes: Vec<f32> = boxes.into_data().iter::<f32>().collect();
        let kept = kept.into_data().iter::<f32>().collect();
        (boxes.as_chunks::<4>().0.to_vec(), kept)
    }

    /// The clipped box of a slot, if all of it is finite.
    fn expected(&self, slot: usize, params: &BoxDecoding) -> Option<[f32; 4]> {
        let [_, slots, deltas, own, references] = self.shape;
        let index = usize::try_from(self.indices[slot]).ok()?;
        let image = slot / slots;
        let place = if own == 1 { 0 } else { image } * references + index % references;
        let delta = self.deltas.as_chunks::<4>().0[image * deltas + index];
        let reference = self.references.as_chunks::<4>().0[place];
        let decoded = decode_box(&delta, &reference, params.weights, params.max_log_scale);
        let is_finite = self.scores[slot].is_finite() && decoded.iter().all(|v| v.is_finite());
        let [height, width] = self.sizes.as_chunks::<2>().0[image];
        let limits = [width, height, width, height];
        is_finite.then(|| [0, 1, 2, 3].map(|i| decoded[i].clamp(0.0, limits[i])))
    }
}

#[test]
fn ten_thousand_random_boxes() {
    let adapter = adapter::adapter();
    let flex = Device::flex();
    let gpu = adapter
        .iter()
        .map(|adapter| (adapter.name, &adapter.device, TOLERANCE));
    let devices: Vec<_> = std::iter::once(("flex", &flex, 0.0)).chain(gpu).collect();
    let mut valid = 0;
    let done = random::cases("decoding", 7 * PARAMS.len(), |random, round| {
        let slots = [700, 1, 255, 256, 257, 1000, 65_536][round % 7];
        let n = if slots > 1000 { 1 } else { 3 };
        let (batch, params) = (batch(random, n, slots), &PARAMS[round % 2]);
        for &(name, device, tolerance) in &devices {
            let (boxes, kept) = batch.decoded(params, device);
            for slot in 0..n * slots {
                let wanted = batch.expected(slot, params);
                let shorter = wanted.map(|[x1, y1, x2, y2]| (x2 - x1).min(y2 - y1));
                let is_kept = shorter.is_some_and(|side| side >= params.min_size);
                let near = shorter.is_some_and(|side| (side - params.min_size).abs() < tolerance);
                let found = kept[slot] != f32::NEG_INFINITY;
                let what = format!("{name}: slot {slot} of {:?}, {wanted:?}", batch.shape);
                assert!(found == is_kept || near, "{what}: kept is {found}");
                let score = if found {
                    batch.scores[slot]
                } else {
                    f32::NEG_INFINITY
                };
                assert_eq!(kept[slot], score, "{what}");
                let wanted = wanted.filter(|_| found).unwrap_or_default();
                for (found, wanted) in boxes[slot].iter().zip(wanted) {
                    assert!((found - wanted).abs() <= tolerance, "{what}: {found}");
                }
                valid += usize::from(found);
            }
        }
        n * slots
    });
    println!("{valid} boxes kept");
    assert!(done < random::CASES || valid > 300);
}
