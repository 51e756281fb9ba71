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

/// The boxes with longer sides, so that all have an area.
fn with_area(boxes: Tensor<3>) -> Tensor<3> {
    let [low, high] = [0, 2].map(|corner| boxes.clone().narrow(2, corner, 2));
    Tensor::cat(vec![low, high + 1.0], 2)
}

/// The candidate of each sample, and its object: boxes of the same image, both with area. Some samples have no object.
fn samples() -> Vec<(usize, Option<usize>)> {
    let sample = |i: usize| {
        let first = i / 40 * 40;
        let (candidate, object) = (first + (i * 7 + 3) % 40, first + (i * 3 + 1) % 40);
        let has_object = candidate % 9 != 0 && object % 9 != 0;
        (candidate, has_object.then_some(object))
    };
    (0..80).map(sample).collect()
}

fn choice(device: &Device) -> Choice {
    let indices = |index: &dyn Fn(usize, (usize, Option<usize>)) -> i32| {
        let samples = samples().into_iter().enumerate();
        let indices: Vec<i32> = samples.map(|(i, sample)| index(i, sample)).collect();
        Tensor::<2, Int>::from_data(TensorData::new(indices, [2, 40]), device)
    };
    let none = |i: usize| -1 - i as i32 % 2;
    Choice {
        candidates: indices(&|_, (candidate, _)| (candidate % 40) as i32),
        matched: indices(&|i, (_, object)| object.map_or(none(i), |object| (object % 40) as i32)),
        is_object: Tensor::zeros([2, 40], device),
        valid: Tensor::ones([2, 40], device),
    }
}

/// Classes of the boxes of 2 images, `[2, 40]`.
fn labels(device: &Device) -> Tensor<2, Int> {
    let labels = (0..80).map(|i| 1 + i % 7).collect::<Vec<i32>>();
    Tensor::from_data(TensorData::new(labels, [2, 40]), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

const WEIGHTS: [f32; 4] = [10.0, 20.0, 5.0, 2.0];
const SMALLEST: [f32; 3] = [60.0, 120.0, 240.0];

/// Asserts that `deltas` are those from each reference to its object, by the definition.
fn check_deltas(deltas: Vec<f32>, objects: Tensor<3>, references: Tensor<3>) {
    let (objects, references) = (values(objects), values(references));
    for ((candidate, object), found) in samples().into_iter().zip(deltas.chunks(4)) {
        let Some(object) = object else {
            assert_eq!(found, [0.0; 4]);
            continue;
        };
        let (object, reference) = (
            &objects[4 * object..][..4],
            &references[4 * candidate..][..4],
        );
        let side = |of: &[f32], axis: usize| f64::from(of[axis + 2] - of[axis]);
        let center = |of: &[f32], axis: usize| f64::from(of[axis]) + side(of, axis) / 2.0;
        for axis in 0..2 {
            let shift = (center(object, axis) - center(reference, axis)) / side(reference, axis);
            let scale = (side(object, axis) / side(reference, axis)).ln();
            for (place, wanted) in [(axis, shift), (axis + 2, scale)] {
                let wanted = wanted * f64::from(WEIGHTS[place]);
                // Differences of corners up to 600, divided by sides from 1.
                let allowed = 1e-4 * (1.0 + wanted.abs());
                let found = f64::from(found[place]);
                assert!((found - wanted).abs() < allowed, "{found}, not {wanted}");
            }
        }
    }
}

#[test]
fn deltas_are_those_of_the_definition() {
    let device = Device::flex();
    let (objects, references) = (boxes(1, &device), boxes(2, &device));
    let choice = choice(&device);
    let deltas = encode_boxes(objects.clone(), references.clone(), &choice, WEIGHTS);
    check_deltas(values(deltas), objects.clone(), references.clone());
    // Images share the references of the first one.
    let shared = with_area(references).narrow(0, 0, 1);
    let deltas = encode_boxes(objects.clone(), shared.clone(), &choice, WEIGHTS);
    check_deltas(values(deltas), objects, shared.repeat_dim(0, 2));
}

/// Candidates are the first 25 boxes of each image, and then its ground truth, of which the first 15 are chosen.
fn roi_samples(device: &Device) -> RoiTargets {
    let proposals = boxes(2, device).narrow(1, 0, 25);
    let gt = with_area(boxes(1, device));
    roi_targets(proposals, gt, labels(device), &choice(device), WEIGHTS)
}

#[test]
fn rois_have_boxes_classes_and_deltas() {
    let device = Device::flex();
    let gt = with_area(boxes(1, &device));
    let proposals = boxes(2, &device).narrow(1, 0, 25);
    let candidates = Tensor::cat(vec![proposals, gt.clone().narrow(1, 0, 15)], 1);
    let found = roi_samples(&device);
    let (all, boxes) = (values(candidates.clone()), values(found.boxes));
    for ((candidate, _), found) in samples().into_iter().zip(boxes.chunks(4)) {
        assert_eq!(found, &all[4 * candidate..][..4]);
    }
    let classes: Vec<f32> = values(found.labels.float());
    for ((_, object), found) in samples().into_iter().zip(classes) {
        assert_eq!(found, object.map_or(0.0, |object| (1 + object % 7) as f32));
    }
    let choice = choice(&device);
    let deltas = encode_boxes(gt, candidates, &choice, WEIGHTS);
    assert_eq!(values(found.deltas), values(deltas));
}

/// A choice with fewer candidates than matches.
fn uneven_choice(device: &Device) -> Choice {
    let choice = choice(device);
    Choice {
        candidates: choice.candidates.narrow(1, 0, 39),
        ..choice
    }
}

#[test]
#[should_panic(expected = "encode_boxes: a candidate per match")]
fn deltas_need_a_candidate_per_match() {
    let device = Device::flex();
    let [gt, references] = [1, 2].map(|seed| boxes(seed, &device));
    encode_boxes(gt, references, &uneven_choice(&device), WEIGHTS);
}

#[test]
#[should_panic(expected = "references [n or 1, b, 4]")]
fn references_have_four_corners() {
    let device = Device::flex();
    let references = boxes(2, &device).narrow(2, 0, 3);
    encode_boxes(boxes(1, &device), references, &choice(&device), WEIGHTS);
}

#[test]
#[should_panic(expected = "roi_targets: a candidate per match")]
fn rois_need_a_candidate_per_match() {
    let device = Device::flex();
    let [proposals, gt] = [2, 1].map(|seed| boxes(seed, &device));
    let (labels, choice) = (labels(&device), uneven_choice(&device));
    roi_targets(proposals, gt, labels, &choice, WEIGHTS);
}

/// Boxes at the candidates of [`choice`]; every fifth index is negative.
fn gathered(device: &Device) -> Vec<f32> {
    let index: Vec<i32> = samples()
        .into_iter()
        .enumerate()
        .map(|(i, (candidate, _))| {
            if i % 5 == 0 {
                -1
            } else {
                (candidate % 40) as i32
            }
        })
        .collect();
    let index = Tensor::from_data(TensorData::new(index, [2, 40]), device);
    values(gather_boxes(boxes(2, device), index))
}

#[test]
fn boxes_are_gathered_by_image() {
    let device = Device::flex();
    let (all, found) = (values(boxes(2, &device)), gathered(&device));
    for (i, ((candidate, _), found)) in samples().into_iter().zip(found.chunks(4)).enumerate() {
        let wanted = if i % 5 == 0 { i / 40 * 40 } else { candidate };
        assert_eq!(found, &all[4 * wanted..][..4]);
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
    let close = |found: Vec<f32>, wanted: Vec<f32>| {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            // A quotient and a logarithm, each rounded.
            let allowed = 1e-5 * (1.0 + wanted.abs());
            assert!((found - wanted).abs() < allowed, "{found}, not {wanted}");
        }
    };
    for reference_sets in [1, 2] {
        let encoded = |device: &Device| {
            let references = with_area(boxes(2, device)).narrow(0, 0, reference_sets);
            values(encode_boxes(
                boxes(1, device),
                references,
                &choice(device),
                WEIGHTS,
            ))
        };
        close(encoded(&selected.device), encoded(&Device::flex()));
    }
    let (wanted, found) = (roi_samples(&Device::flex()), roi_samples(&selected.device));
    assert_eq!(values(found.boxes), values(wanted.boxes));
    assert_eq!(values(found.labels.float()), values(wanted.labels.float()));
    close(values(found.deltas), values(wanted.deltas));
    assert_eq!(gathered(&selected.device), gathered(&Device::flex()));
    let rows = |device: &Device| values(roi_rows(boxes(3, device), &SMALLEST));
    assert_eq!(rows(&selected.device), rows(&Device::flex()));
}
