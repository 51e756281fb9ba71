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

fn chosen(device: &Device, count: usize, quota: usize) -> [Vec<f32>; 4] {
    let matches = matches(device);
    let scores = sampling_scores(matches.clone(), &[1, 2, 3], device);
    let (scores, best) = top_k_segments(scores, &[0..60, 60..120], count);
    let Choice {
        candidates,
        matched,
        is_object,
        valid,
    } = choose_samples(scores, best, matches, quota);
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
}
