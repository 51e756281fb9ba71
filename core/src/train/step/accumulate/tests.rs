use super::*;
use crate::benchmark::synthetic_images;
use crate::config::Config;
use crate::train::input::batch::TrainSample;

/// Four images of different sizes.
fn batch() -> Batch {
    let mut config = Config::default();
    (config.image.min_size, config.image.max_size) = (96, 160);
    let (images, dataset) = synthetic_images(4, 4);
    let samples = images.into_iter().zip(&dataset.samples);
    let samples =
        samples.map(|(image, sample)| TrainSample::new(image, sample, &config.image, false));
    Batch::new(samples.collect(), config.image.size_divisor)
}

#[test]
fn micro_batches_keep_padding_and_places() {
    let batch = batch();
    let halves = micro_batches(batch.clone(), 2);
    let places: Vec<_> = halves.iter().map(|half| half.places.clone()).collect();
    assert_eq!(places, [vec![0, 1], vec![2, 3]]);
    assert!(
        halves
            .iter()
            .all(|half| half.shape[2..] == batch.shape[2..])
    );
    let none = Batch::of_shard(Vec::new(), (32, 32));
    assert!(micro_batches(none, 2).is_empty());
}
