use super::*;

/// Boxes `[2, 40, 4]` with corners up to 600 pixels; some have no area.
fn boxes(seed: u32, device: &Device) -> Tensor<3> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 300.0
    };
    let values: Vec<f32> = (0..80)
        .flat_map(|i| {
            let [x, y, w, h] = [next(), next(), next() + 1.0, next() + 1.0];
            let w = if i % 9 == 0 { 0.0 } else { w };
            [x, y, x + w, y + h]
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [2, 40, 4]), device)
}

/// Every ninth box is no object, so that boxes without area have no delta.
fn matched(device: &Device) -> Tensor<2, Int> {
    let matched: Vec<i32> = (0..80)
        .map(|i| if i % 9 == 0 { -1 - i % 2 } else { i })
        .collect();
    Tensor::from_data(TensorData::new(matched, [2, 40]), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

const WEIGHTS: [f32; 4] = [10.0, 20.0, 5.0, 2.0];
const SMALLEST: [f32; 3] = [60.0, 120.0, 240.0];

#[test]
fn deltas_are_those_of_the_definition() {
    let device = Device::flex();
    let (objects, references) = (boxes(1, &device), boxes(2, &device));
    let deltas = encode_boxes(
        objects.clone(),
        references.clone(),
        matched(&device),
        WEIGHTS,
    );
    let (objects, references) = (values(objects), values(references));
    for (i, found) in values(deltas).chunks(4).enumerate() {
        let [object, reference] = [&objects, &references].map(|list| &list[4 * i..][..4]);
        let side = |of: &[f32], axis: usize| f64::from(of[axis + 2] - of[axis]);
        let center = |of: &[f32], axis: usize| f64::from(of[axis]) + side(of, axis) / 2.0;
        for axis in 0..2 {
            let shift = (center(object, axis) - center(reference, axis)) / side(reference, axis);
            let scale = (side(object, axis) / side(reference, axis)).ln();
            for (place, wanted) in [(axis, shift), (axis + 2, scale)] {
                let wanted = if i % 9 == 0 {
                    0.0
                } else {
                    wanted * f64::from(WEIGHTS[place])
                };
                // Differences of corners up to 600, divided by sides from 1.
                let allowed = 1e-4 * (1.0 + wanted.abs());
                let found = f64::from(found[place]);
                assert!(
                    (found - wanted).abs() < allowed,
                    "box {i}: {found}, not {wanted}"
                );
            }
        }
    }
}

#[test]
fn rows_have_images_and_levels() {
    let device = Device::flex();
    let boxes = boxes(3, &device);
    let rows = values(roi_rows(boxes.clone(), &SMALLEST));
    for (i, (row, bbox)) in rows.chunks(6).zip(values(boxes).chunks(4)).enumerate() {
        let side = ((bbox[2] - bbox[0]) * (bbox[3] - bbox[1])).sqrt();
        let level = SMALLEST
            .iter()
            .filter(|&&smallest| side >= smallest)
            .count();
        assert_eq!(row[..2], [(i / 40) as f32, level as f32]);
        assert_eq!(row[2..], *bbox);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn gpus_compute_the_same() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    let encoded = |device: &Device| {
        let (objects, references) = (boxes(1, device), boxes(2, device));
        values(encode_boxes(objects, references, matched(device), WEIGHTS))
    };
    let (wanted, found) = (encoded(&Device::flex()), encoded(&selected.device));
    for (found, wanted) in found.iter().zip(wanted) {
        // A quotient and a logarithm, each rounded.
        let allowed = 1e-5 * (1.0 + wanted.abs());
        assert!((found - wanted).abs() < allowed, "{found}, not {wanted}");
    }
    let rows = |device: &Device| values(roi_rows(boxes(3, device), &SMALLEST));
    assert_eq!(rows(&selected.device), rows(&Device::flex()));
}
