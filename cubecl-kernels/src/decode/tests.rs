use super::*;
use burn::tensor::{Device, TensorData};

const PARAMS: BoxDecoding = BoxDecoding {
    weights: [1.0; 4],
    max_log_scale: 4.0,
    min_size: 0.01,
};

/// Logits of 2 images with 300 slots: numbers from -8 to 8, some whose exponential overflows, and some not finite.
fn logits(device: &Device) -> Tensor<2> {
    let logit = |i: usize| match i % 50 {
        9 => f32::NAN,
        19 => f32::INFINITY,
        29 => f32::NEG_INFINITY,
        39 => 100.0,
        49 => -100.0,
        _ => (i * 7919 % 1601) as f32 / 100.0 - 8.0,
    };
    let logits = (0..600).map(logit).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(logits, [2, 300]), device)
}

/// Boxes and scores of [`logits`], by `decode`.
fn decoded(
    device: &Device,
    decode: impl Fn(Tensor<3>, Tensor<3>, Tensor<2, Int>, Tensor<2>) -> (Tensor<3>, Tensor<2>),
) -> [Vec<f32>; 2] {
    let deltas = (0..2400).map(|i| (i * 31 % 17) as f32 / 16.0 - 0.5);
    let deltas = TensorData::new(deltas.collect::<Vec<f32>>(), [2, 300, 4]);
    let references = (0..300).flat_map(|i| [0.0, 0.0, (i % 20) as f32, (i % 30) as f32]);
    let references = TensorData::new(references.collect::<Vec<f32>>(), [1, 300, 4]);
    let indices = (0..600).map(|i| if i % 11 == 0 { -1 } else { i % 300 });
    let indices = TensorData::new(indices.collect::<Vec<i32>>(), [2, 300]);
    let (boxes, scores) = decode(
        Tensor::from_data(deltas, device),
        Tensor::from_data(references, device),
        Tensor::from_data(indices, device),
        Tensor::from_data([[20.0f32, 30.0], [25.0, 15.0]], device),
    );
    let scores = scores.into_data().try_into_vec().expect("f32");
    [boxes.into_data().try_into_vec().expect("f32"), scores]
}

fn by_logits(device: &Device) -> [Vec<f32>; 2] {
    decoded(device, |deltas, references, indices, sizes| {
        decode_proposals(deltas, references, logits(device), indices, sizes, &PARAMS)
    })
}

#[test]
fn scores_of_logits_are_sigmoids() {
    let device = Device::flex();
    let wanted = decoded(&device, |deltas, references, indices, sizes| {
        let scores = (logits(&device).neg().exp() + 1.0).recip();
        decode_boxes(deltas, references, scores, indices, sizes, &PARAMS)
    });
    let valid = wanted[1].iter().filter(|score| score.is_finite()).count();
    assert!((100..600).contains(&valid), "{valid} valid slots");
    let extremes = [0.0, 1.0].map(|extreme| wanted[1].contains(&extreme));
    assert_eq!(extremes, [true; 2], "scores of the largest logits");
    assert_eq!(by_logits(&device), wanted);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn gpus_decode_logits() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    let (wanted, found) = (by_logits(&Device::flex()), by_logits(&selected.device));
    // WebGPU allows an exponential an error of 3 + 2 |x| units in the last place.
    for (allowed, (wanted, found)) in [1e-4, 2e-6].into_iter().zip(wanted.iter().zip(&found)) {
        for (&wanted, &found) in wanted.iter().zip(found) {
            let is_close = wanted == found || (wanted - found).abs() <= allowed;
            assert!(is_close, "{found}, not {wanted}");
        }
    }
}
