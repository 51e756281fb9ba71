//! Box decoding on the wgpu adapter against the processor, broken numbers among the inputs.

mod adapter;

use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::{BoxDecoding, decode_box, decode_boxes};

const PARAMS: BoxDecoding = BoxDecoding {
    weights: [10.0, 10.0, 5.0, 5.0],
    max_log_scale: 4.135_166_6,
    min_size: 1.0,
};

/// Pictures, slots a picture, deltas a picture, references a picture.
const SHAPE: [usize; 4] = [3, 700, 900, 300];

/// A repeatable value in `0..1`.
fn noise(index: usize) -> f32 {
    ((index as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0
}

fn deltas(index: usize) -> f32 {
    match index % 97 {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => 1e38,
        4 => -1e38,
        _ => 30.0 * noise(index) - 15.0,
    }
}

fn references(index: usize) -> f32 {
    let corner = index % 4 / 2;
    400.0 * noise(index) + corner as f32 * (noise(index + 9) - 0.1) * 200.0
}

fn scores(index: usize) -> f32 {
    match index % 31 {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        _ => noise(index),
    }
}

fn tensor<const D: usize>(
    shape: [usize; D],
    value: fn(usize) -> f32,
    device: &Device,
) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn decoded(pictures: usize, device: &Device) -> (Vec<f32>, Vec<f32>) {
    let [n, slots, d, r] = SHAPE;
    let indices: Vec<i32> = (0..n * slots)
        .map(|i| (noise(i) * (d as f32 + 50.0)) as i32 - 50)
        .map(|i| i.max(-1))
        .collect();
    let indices = Tensor::<2, Int>::from_data(TensorData::new(indices, [n, slots]), device);
    let sizes = TensorData::new(vec![480.0, 640.0, 100.0, 50.0, 1.0, 2000.0], [n, 2]);
    let (boxes, kept) = decode_boxes(
        tensor([n, d, 4], deltas, device),
        tensor([pictures, r, 4], references, device),
        tensor([n, slots], scores, device),
        indices,
        Tensor::from_data(sizes, device),
        &PARAMS,
    );
    (
        boxes.into_data().iter::<f32>().collect(),
        kept.into_data().iter::<f32>().collect(),
    )
}

#[test]
fn the_adapter_decodes_as_the_processor() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    for pictures in [1, SHAPE[0]] {
        let (wanted_boxes, wanted) = decoded(pictures, &Device::flex());
        let (boxes, kept) = decoded(pictures, &adapter.device);
        assert_eq!(kept, wanted);
        let filled = wanted.iter().filter(|score| score.is_finite()).count();
        assert!(filled > 300 && filled < 1800, "{filled}");
        for (found, wanted) in boxes.iter().zip(&wanted_boxes) {
            // exp and division may be a few units in the last place off, of boxes up to 1e5 pixels.
            assert!((found - wanted).abs() < 1e-2, "{found}, not {wanted}");
        }
    }
}

#[test]
fn slots_take_their_own_deltas_and_reference() {
    let (boxes, kept) = decoded(SHAPE[0], &Device::flex());
    let [n, slots, d, r] = SHAPE;
    let mut filled = 0;
    for slot in 0..n * slots {
        let index = (noise(slot) * (d as f32 + 50.0)) as i32 - 50;
        if kept[slot] == f32::NEG_INFINITY {
            assert_eq!(boxes[slot * 4..][..4], [0.0; 4]);
            continue;
        }
        filled += 1;
        let (picture, index) = (slot / slots, index as usize);
        let delta = [0, 1, 2, 3].map(|i| deltas((picture * d + index) * 4 + i));
        let reference = [0, 1, 2, 3].map(|i| references((picture * r + index % r) * 4 + i));
        let bbox = decode_box(&delta, &reference, PARAMS.weights, PARAMS.max_log_scale);
        let [height, width] = [[480.0, 640.0], [100.0, 50.0], [1.0, 2000.0]][picture];
        let limits = [width, height, width, height];
        let clipped = [0, 1, 2, 3].map(|i| bbox[i].clamp(0.0, limits[i]));
        assert_eq!(boxes[slot * 4..][..4], clipped);
    }
    assert!(filled > 300);
}
