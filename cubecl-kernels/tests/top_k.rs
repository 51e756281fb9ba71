//! Top-k of segments, on the CPU and on the wgpu adapter, compared with [`top_k`] slot by slot.

mod adapter;
mod random;

use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{MAX_TOP_K, top_k, top_k_segments};
use random::Random;
use std::ops::Range;

const ODD: [f32; 11] = [
    f32::NAN,
    -f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    f32::MIN_POSITIVE,
    f32::from_bits(1),
    -f32::from_bits(1),
    f32::MAX,
    f32::MIN,
];

/// Scores of one kind of difficult cases.
fn scores(random: &mut Random, count: usize) -> Vec<f32> {
    let kind = random.below(6);
    let equal = random.pick(&ODD);
    let score = |random: &mut Random| match kind {
        0 => equal,
        1 => random.pick(&ODD),
        2 => random.below(4) as f32 - 2.0,
        3 => f32::from_bits(random.bits() as u32),
        4 => random.between(-4.0, -2.3),
        _ => (random.bits() >> 40) as f32 - 8e6,
    };
    (0..count).map(|_| score(random)).collect()
}

/// Bits of the scores, and the indices.
fn found(
    scores: &[Vec<f32>],
    segments: &[Range<usize>],
    k: usize,
    device: &Device,
) -> (Vec<u32>, Vec<i32>) {
    let shape = [scores.len(), scores[0].len()];
    let scores = Tensor::from_data(TensorData::new(scores.concat(), shape), device);
    let (best, indices) = top_k_segments(scores, segments, k);
    assert_eq!(best.dims(), [shape[0], segments.len(), k]);
    assert_eq!(indices.dims(), [shape[0], segments.len(), k]);
    (
        best.into_data().iter::<f32>().map(f32::to_bits).collect(),
        indices.into_data().iter::<i32>().collect(),
    )
}

fn expected(scores: &[Vec<f32>], segments: &[Range<usize>], k: usize) -> (Vec<u32>, Vec<i32>) {
    let slots = scores
        .iter()
        .flat_map(|row| segments.iter().map(move |segment| (row, segment)))
        .flat_map(|(row, segment)| {
            let mut slots: Vec<(u32, i32)> = top_k(&row[segment.clone()], k)
                .into_iter()
                .map(|i| segment.start + i)
                .map(|i| (row[i].to_bits(), i as i32))
                .collect();
            slots.resize(k, (f32::NEG_INFINITY.to_bits(), -1));
            slots
        });
    slots.unzip()
}

/// Compares every device with the reference. Returns the number of cases.
fn check(scores: &[Vec<f32>], segments: &[Range<usize>], k: usize, devices: &[Device]) -> usize {
    let (best, indices) = expected(scores, segments, k);
    for device in devices {
        let (found_best, found_indices) = found(scores, segments, k, device);
        let wrong =
            (0..best.len()).find(|&i| (found_best[i], found_indices[i]) != (best[i], indices[i]));
        if let Some(i) = wrong {
            let (row, segment) = (i / k / segments.len(), &segments[i / k % segments.len()]);
            panic!(
                "{device:?}: slot {} of k = {k} in row {row}, {segment:?}: index {} and score {}, \
                 not {} and {}",
                i % k,
                found_indices[i],
                f32::from_bits(found_best[i]),
                indices[i],
                f32::from_bits(best[i]),
            );
        }
    }
    scores.len() * segments.len()
}

fn devices(adapter: &Option<adapter::Adapter>) -> Vec<Device> {
    let gpu = adapter.iter().map(|adapter| adapter.device.clone());
    std::iter::once(Device::flex()).chain(gpu).collect()
}

#[test]
fn ten_thousand_random_segments() {
    let adapter = adapter::adapter();
    let devices = devices(&adapter);
    random::cases("top-k", 8, |random, round| {
        let k = [2048, 1, 777, 2, 17, 100, 256, 300][round % 8];
        let mut counts: Vec<usize> = [0, 1, 255, 256, 257].repeat(10);
        let segment_count = if k > 512 { 60 } else { 550 };
        counts.extend((0..segment_count).map(|_| random.below(700)));
        counts.extend((round % 4 == 0).then_some(65_536));
        let rows = if k > 512 { 2 } else { 3 };
        let mut rows_scores = vec![Vec::new(); rows];
        let mut segments = Vec::new();
        for count in counts {
            let first = rows_scores[0].len();
            segments.push(first..first + count);
            for row in &mut rows_scores {
                row.extend(scores(random, count));
            }
        }
        check(&rows_scores, &segments, k, &devices)
    });
}

#[test]
fn long_segments() {
    let adapter = adapter::adapter();
    let devices = devices(&adapter);
    let mut random = Random(2);
    for k in [1, 1000, MAX_TOP_K] {
        let rows: Vec<Vec<f32>> = (0..6).map(|_| scores(&mut random, 365_537)).collect();
        // The second overlaps the first, the last is short.
        let segments = [
            0..65_536,
            0..300_000,
            65_537..365_537,
            16_384..32_768,
            7..300,
        ];
        check(&rows, &segments, k, &devices);
    }
}

#[test]
fn empty_segments_give_empty_slots() {
    let adapter = adapter::adapter();
    for device in devices(&adapter) {
        let scores = || Tensor::<2>::zeros([2, 3], &device);
        let (best, indices) = top_k_segments(scores(), &[1..1, 3..3], 2);
        assert!(
            best.into_data()
                .iter::<f32>()
                .all(|v| v == f32::NEG_INFINITY)
        );
        assert!(indices.into_data().iter::<i32>().all(|v| v == -1));
    }
}

#[test]
fn the_operator_has_no_gradient() {
    let adapter = adapter::adapter();
    for device in devices(&adapter) {
        let scores = Tensor::<2>::from_data([[1.0, 3.0, 2.0]], &device.autodiff()).require_grad();
        let (best, _) = top_k_segments(scores.clone(), &[0..3, 0..1], 2);
        let gradients = (best.sum() + scores.clone().sum()).backward();
        let gradient = scores.grad(&gradients).expect("a gradient");
        assert_eq!(
            gradient.into_data().iter::<f32>().collect::<Vec<_>>(),
            [1.0; 3]
        );
    }
}
