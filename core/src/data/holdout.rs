//! Held-out validation images for datasets without a validation split.

use super::dataset::Sample;
use crate::random::Stream;
use std::collections::BTreeMap;

/// Indices of the images held out, in ascending order: `fraction` of them, at least one, and never all of them.
///
/// The choice is a function of the image ids and the seed. Images are stratified by class: rare classes are
/// assigned first, and a class that occurs in only one image stays in the training set if possible.
pub(super) fn held_out(samples: &[Sample], fraction: f64, seed: u64) -> Vec<usize> {
    let count = samples.len();
    if count < 2 {
        return Vec::new();
    }
    let wanted = ((count as f64 * fraction).round() as usize).clamp(1, count - 1);
    let stream = Stream::named("validation split", seed);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&index| {
        (
            stream.bits(samples[index].image_id),
            samples[index].image_id,
        )
    });

    let mut by_class: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &index in &order {
        let mut labels: Vec<usize> = samples[index].instances.iter().map(|i| i.label).collect();
        labels.sort_unstable();
        labels.dedup();
        for label in labels {
            by_class.entry(label).or_default().push(index);
        }
    }
    let mut classes: Vec<&Vec<usize>> = by_class.values().collect();
    classes.sort_by_key(|images| images.len());
    // None: not assigned yet.
    let mut held: Vec<Option<bool>> = vec![None; count];
    let mut taken = 0;
    for images in classes {
        let quota = (images.len() as f64 * fraction).round() as usize;
        let quota = quota.min(images.len() - 1);
        let mut already = images
            .iter()
            .filter(|&&index| held[index] == Some(true))
            .count();
        for &index in images {
            if held[index].is_some() {
                continue;
            }
            let take = already < quota && taken < wanted;
            held[index] = Some(take);
            already += usize::from(take);
            taken += usize::from(take);
        }
    }
    // Images without objects, then any others up to the fraction, except the only image of a class.
    let only: Vec<usize> = by_class
        .values()
        .filter(|images| images.len() == 1)
        .map(|images| images[0])
        .collect();
    let free = order.iter().filter(|&&index| held[index].is_none());
    let used = order
        .iter()
        .filter(|&&index| held[index] == Some(false) && !only.contains(&index));
    let last = order
        .iter()
        .filter(|&&index| held[index] == Some(false) && only.contains(&index));
    let more: Vec<usize> = free
        .chain(used)
        .chain(last)
        .copied()
        .take(wanted - taken)
        .collect();
    let mut found: Vec<usize> = (0..count)
        .filter(|&index| held[index] == Some(true))
        .collect();
    found.extend(more);
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Instance;
    use vernier_mask::Rle;

    fn samples(labels: &[&[usize]]) -> Vec<Sample> {
        let mask = Rle::from_bbox([0.0, 0.0, 4.0, 4.0], 8, 8).unwrap();
        let instances = |labels: &[usize]| {
            labels
                .iter()
                .map(|&l| Instance::new(l, mask.clone()))
                .collect()
        };
        let sample =
            |(id, labels): (u64, &&[usize])| Sample::new(id, "a", (8, 8), instances(labels));
        (1..).zip(labels).map(sample).collect()
    }

    #[test]
    fn the_fraction_holds_for_every_class_and_does_not_change() {
        let labels: Vec<&[usize]> = (0..200)
            .map(|i| if i % 10 == 0 { &[2, 1][..] } else { &[1][..] })
            .collect();
        let samples = samples(&labels);
        let held = held_out(&samples, 0.1, 0);
        assert_eq!(held.len(), 20);
        assert_eq!(
            held.iter().filter(|&&index| index % 10 == 0).count(),
            2,
            "a tenth of the rare class"
        );
        assert_eq!(held, held_out(&samples, 0.1, 0));
        assert_ne!(held, held_out(&samples, 0.1, 1));
    }

    #[test]
    fn small_sets_keep_one_image_on_each_side() {
        for count in 2..8 {
            let labels = vec![&[1][..]; count];
            for fraction in [0.001, 0.1, 0.5, 0.999] {
                let held = held_out(&samples(&labels), fraction, 3);
                assert!(
                    (1..count).contains(&held.len()),
                    "{count} {fraction}: {held:?}"
                );
            }
        }
        assert!(held_out(&samples(&[&[1]]), 0.5, 0).is_empty());
        // The only image of a class is trained on.
        for seed in 0..20 {
            let held = held_out(&samples(&[&[1], &[1], &[2], &[1], &[1]]), 0.4, seed);
            assert!(held.len() == 2 && !held.contains(&2), "{held:?}");
        }
    }
}
