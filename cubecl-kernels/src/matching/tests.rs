use super::*;
use burn::tensor::{Device, TensorData};

/// Images, proposals and slots for ground truth per image.
const SIZES: [usize; 3] = [3, 300, 5];

/// Valid ground truths of each image.
const COUNTS: [i32; 3] = [5, 0, 2];

/// Boxes `[count, 4]` with small whole corners, so that many overlap and IoUs round once.
fn boxes(count: usize, seed: usize) -> Vec<f32> {
    let corner = |i: usize| ((i + seed).wrapping_mul(2_654_435_761) >> 16) % 8;
    let values = (0..count).flat_map(|i| {
        let [x, y, width, height] = [0, 1, 2, 3].map(|axis| corner(4 * i + axis) as f32);
        [x, y, x + width + 1.0, y + height + 1.0]
    });
    values.collect()
}

/// Every fourth slot is padding.
fn score(slot: usize) -> f32 {
    match slot % 4 {
        3 => f32::NEG_INFINITY,
        _ => slot as f32 / 1000.0,
    }
}

fn thresholds() -> MatchThresholds {
    MatchThresholds {
        fg_iou: 0.5,
        bg_iou: 0.3,
        allow_low_quality: false,
    }
}

fn found(device: &Device) -> Vec<i32> {
    let [n, total, slots] = SIZES;
    let tensor = |values: Vec<f32>, shape: [usize; 3]| {
        Tensor::<3>::from_data(TensorData::new(values, shape), device)
    };
    let scores = (0..n * total).map(score).collect();
    let matches = match_proposals(
        tensor(boxes(n * total, 1), [n, total, 4]),
        tensor(scores, [1, n, total]).reshape([n, total]),
        tensor(boxes(n * slots, 90_000), [n, slots, 4]),
        Tensor::from_data(TensorData::new(COUNTS.to_vec(), [n]), device),
        &thresholds(),
    );
    matches.into_data().iter::<i32>().collect()
}

#[test]
fn proposals_and_the_ground_truth_are_matched() {
    let [n, total, slots] = SIZES;
    let (proposals, gt) = (boxes(n * total, 1), boxes(n * slots, 90_000));
    let (proposals, gt) = (proposals.as_chunks::<4>().0, gt.as_chunks::<4>().0);
    let found = found(&Device::flex());
    let mut kinds = [0; 3];
    for (index, found) in found.into_iter().enumerate() {
        let (image, place) = (index / (total + slots), index % (total + slots));
        let count = COUNTS[image] as usize;
        let objects = &gt[image * slots..][..count];
        let (candidate, is_valid) = match place.checked_sub(total) {
            None => {
                let slot = image * total + place;
                (proposals[slot], score(slot) > f32::NEG_INFINITY)
            }
            Some(slot) => (gt[image * slots + slot], slot < count),
        };
        let wanted = match is_valid {
            true => match_by(objects, &[candidate], &thresholds(), iou)[0],
            false => IGNORED,
        };
        assert_eq!(found, wanted, "image {image}, candidate {place}");
        kinds[(found.min(0) - IGNORED) as usize] += 1;
        if is_valid && place >= total {
            assert_eq!(objects[found as usize], candidate, "matches itself");
        }
    }
    assert!(kinds.iter().all(|&kind| kind > 10), "{kinds:?}");
}

#[test]
#[should_panic(expected = "gt [n, t, 4]")]
fn ground_truth_has_four_corners() {
    let device = Device::flex();
    let boxes = |corners: usize| Tensor::<3>::zeros([1, 2, corners], &device);
    let (scores, counts) = (Tensor::zeros([1, 2], &device), Tensor::zeros([1], &device));
    match_proposals(boxes(4), scores, boxes(5), counts, &thresholds());
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn gpus_match_the_same() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    assert_eq!(found(&selected.device), found(&Device::flex()));
}
