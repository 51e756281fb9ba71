//! Replicas that divide a batch compute the same as one model does part by part.

use super::small::{config, sample, small_image};
use burn::module::ParamId;
use burn::tensor::Device;
use mrcnn_core::MaskRcnn;
use mrcnn_core::random::Stream;
use mrcnn_core::train::LossValues;
use mrcnn_core::train::parts::{Batch, Optimizer, ParamGradients, Replicas, TrainSample};
use mrcnn_core::weights::state_dict;
use mrcnn_tests::close::{assert_close, magnitude};
use std::collections::BTreeMap;

/// Three images, so that two replicas get different numbers of images.
fn batch() -> Batch {
    let config = config();
    let boxes = [[8.0, 10.0, 60.0, 70.0], [50.0, 20.0, 90.0, 88.0]];
    let images = [(128, 96), (96, 96), (110, 100)].map(|(w, h)| small_image(w, h));
    let samples = images
        .iter()
        .map(|image| TrainSample::new(image.clone(), &sample(image, &boxes), &config.image, false));
    Batch::new(samples.collect(), config.image.size_divisor)
}

fn step(
    replicas: usize,
    model: &MaskRcnn,
    batch: Batch,
    stream: Stream,
) -> (LossValues, ParamGradients) {
    let device = Device::flex().autodiff();
    let replicas = Replicas::new(replicas).expect("threads");
    let found = replicas.losses_and_gradients(model, batch, stream, &device, 1.0);
    found.expect("a step")
}

fn flat(gradients: ParamGradients) -> BTreeMap<ParamId, Vec<f32>> {
    let values = gradients.by_id().into_iter();
    values
        .map(|(id, gradient)| (id, gradient.into_data().iter::<f32>().collect()))
        .collect()
}

#[test]
fn two_replicas_average_their_shards() {
    let model = MaskRcnn::new(&config().model, 1, &Device::flex().autodiff());
    let stream = Stream::named("test", 3);
    let (losses, gradients) = step(2, &model, batch(), stream);

    let mut shards = batch().split(2).into_iter().enumerate();
    let mut alone = || {
        let (index, shard) = shards.next().expect("two shards");
        let (losses, gradients) = step(1, &model, shard, stream.fork(index as u64));
        (losses, flat(gradients))
    };
    let ((losses0, gradients0), (losses1, gradients1)) = (alone(), alone());
    for (i, loss) in losses.named() {
        let [loss0, loss1] = [losses0, losses1].map(|losses| losses.get(i).expect("a loss"));
        let wanted = (2.0 * loss0 + loss1) / 3.0;
        assert!(
            (loss - wanted).abs() <= 1e-5 * wanted.abs(),
            "loss {i}: {loss}, wanted {wanted}"
        );
    }
    let gradients = flat(gradients);
    assert_eq!(gradients.len(), gradients0.len());
    assert!(gradients.len() > 50, "{} parameters", gradients.len());
    for (id, found) in gradients {
        let pairs = gradients0[&id].iter().zip(&gradients1[&id]);
        let wanted: Vec<f32> = pairs.map(|(a, b)| (2.0 * a + b) / 3.0).collect();
        // The same operations with other numbers of threads: sums in another order.
        assert_close(
            "gradient",
            &found,
            &wanted,
            1e-4 * magnitude(&wanted).max(1e-3),
        );
    }
}

#[test]
fn replicas_are_deterministic() {
    let trained = || {
        let config = config();
        let mut model = MaskRcnn::new(&config.model, 1, &Device::flex().autodiff());
        let mut optimizer = Optimizer::new(&config.train);
        for index in 0..2 {
            let (_, gradients) = step(2, &model, batch(), Stream::named("test", index));
            optimizer.step(&mut model, gradients, 0.01);
        }
        state_dict(&model)
    };
    let (first, second) = (trained(), trained());
    for (name, wanted) in &first {
        assert_eq!(second[name], *wanted, "{name}");
    }
}
