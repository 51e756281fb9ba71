use super::*;
use crate::matching::{BACKGROUND, IGNORED};
use crate::top_k_segments;

/// Matches of three images with 60 candidates: few objects, many, none; one has few candidates of any kind.
fn matches(device: &Device) -> Tensor<2, Int> {
    let of = |image: usize, i: usize| match (image, i % 7) {
        (0, 3) | (1, 0..=4) => (i % 5) as i32,
        (2, _) if i > 6 => IGNORED,
        (_, 6) => IGNORED,
        _ => BACKGROUND,
    };
    let values: Vec<i32> = (0..3)
        .flat_map(|image| (0..60).map(move |i| of(image, i)))
        .collect();
    Tensor::from_data(TensorData::new(values, [3, 60]), device)
}

fn choice(device: &Device, count: usize, quota: usize) -> Choice {
    let matches = matches(device);
    let scores = sampling_scores(matches.clone(), sampling_seeds(&[1, 2, 3], device));
    let (scores, best) = top_k_segments(scores, &[0..60, 60..120], count);
    choose_samples(scores, best, matches, quota)
}

fn chosen(device: &Device, count: usize, quota: usize) -> [Vec<f32>; 4] {
    let Choice {
        candidates,
        matched,
        is_object,
        valid,
    } = choice(device, count, quota);
    [candidates.float(), matched.float(), is_object, valid]
        .map(|tensor| tensor.into_data().try_into_vec().expect("f32"))
}

#[test]
fn objects_come_first_up_to_their_quota() {
    let device = Device::flex();
    let of: Vec<i32> = matches(&device).into_data().iter::<i32>().collect();
    for (count, quota) in [(16, 4), (40, 10), (16, 0), (8, 8)] {
        let [candidates, matched, is_object, valid] = chosen(&device, count, quota);
        for image in 0..3 {
            let slots = image * count..(image + 1) * count;
            let of = &of[image * 60..][..60];
            let objects = of.iter().filter(|&&m| m >= 0).count().min(quota);
            let background = of.iter().filter(|&&m| m == BACKGROUND).count();
            let total = (objects + background).min(count);
            let mut seen = Vec::new();
            for (place, slot) in slots.enumerate() {
                let kind = (is_object[slot], valid[slot]);
                if place >= total {
                    assert_eq!((kind, candidates[slot]), ((0.0, 0.0), 0.0));
                    assert_eq!(matched[slot], IGNORED as f32);
                    continue;
                }
                let candidate = candidates[slot] as usize;
                assert_eq!(matched[slot], of[candidate] as f32);
                assert_eq!(kind, (f32::from(place < objects), 1.0));
                assert_eq!(of[candidate] >= 0, place < objects);
                seen.push(candidate);
            }
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), total, "every candidate once");
        }
    }
}

/// The first 4 of 16 slots per image: boxes, labels, matches and objects.
fn first_slots(device: &Device) -> [Vec<f32>; 4] {
    let boxes = (0..3 * 16 * 4).map(|i| i as f32).collect::<Vec<f32>>();
    let labels = (0..3 * 16).collect::<Vec<i32>>();
    let ObjectSlots {
        boxes,
        labels,
        matched,
        is_object,
    } = object_slots(
        Tensor::from_data(TensorData::new(boxes, [3, 16, 4]), device),
        Tensor::from_data(TensorData::new(labels, [3, 16]), device),
        &choice(device, 16, 4),
        4,
    );
    let slots = [labels.float(), matched.float(), is_object].map(|slots| slots.reshape([12]));
    let [labels, matched, is_object] = slots;
    [boxes.reshape([48]), labels, matched, is_object]
        .map(|tensor: Tensor<1>| tensor.into_data().try_into_vec().expect("f32"))
}

#[test]
fn object_slots_are_the_first_of_each_image() {
    let device = Device::flex();
    let [boxes, labels, matched, is_object] = first_slots(&device);
    let [_, all_matched, all_objects, _] = chosen(&device, 16, 4);
    assert!(all_objects.iter().any(|&is_object| is_object > 0.0));
    for slot in 0..12 {
        let from = slot / 4 * 16 + slot % 4;
        let corners = [0, 1, 2, 3].map(|i| (from * 4 + i) as f32);
        assert_eq!(boxes[slot * 4..][..4], corners);
        assert_eq!(labels[slot], from as f32);
        assert_eq!(matched[slot], all_matched[from]);
        assert_eq!(is_object[slot], all_objects[from]);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn gpus_choose_the_same() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    for (count, quota) in [(16, 4), (40, 10), (16, 0), (8, 8)] {
        let wanted = chosen(&Device::flex(), count, quota);
        assert_eq!(chosen(&selected.device, count, quota), wanted);
    }
    assert_eq!(first_slots(&selected.device), first_slots(&Device::flex()));
}
