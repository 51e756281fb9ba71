//! Micro-batches update the weights like the whole batch.

use super::small::{config, sample, small_image};
use burn::tensor::Device;
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::OptimizerKind;
use mrcnn_core::random::Stream;
use mrcnn_core::train::LossValues;
use mrcnn_core::train::parts::{
    Batch, Optimizer, Replicas, TrainSample, accumulated_losses_and_gradients,
};
use mrcnn_core::weights::state_dict;

/// Steps of SGD that sample all candidates, so that no near-tie decides.
fn trained(micro_batches: Option<usize>) -> (Vec<LossValues>, Vec<f64>, Vec<f64>) {
    let mut config = config();
    let rpn = &mut config.model.rpn;
    (rpn.pre_nms_train, rpn.post_nms_train) = (20, 40);
    config.model.roi.batch_per_image = 256;
    config.train.optimizer = OptimizerKind::Sgd;
    let boxes = [[8.0, 10.0, 60.0, 70.0], [50.0, 20.0, 88.0, 88.0]];
    // Different sizes, so that most images have padding, and different numbers of objects; one image has none.
    let images = [
        ((128, 96), 2),
        ((96, 96), 1),
        ((110, 100), 0),
        ((90, 128), 2),
    ];
    let samples = images.into_iter().map(|((width, height), objects)| {
        let image = small_image(width, height);
        let sample = sample(&image, &boxes[..objects]);
        TrainSample::new(image, &sample, &config.image, false)
    });
    let batch = Batch::new(samples.collect(), config.image.size_divisor);
    let device = Device::flex().autodiff();
    let mut model = MaskRcnn::new(&config.model, 1, &device);
    let weights = |model: &MaskRcnn| -> Vec<f64> {
        let state = state_dict(model);
        state.values().flat_map(|data| data.iter::<f64>()).collect()
    };
    let (start, mut all) = (weights(&model), Vec::new());
    let mut optimizer = Optimizer::new(&config.train);
    let whole = Replicas::new(1).expect("no threads of its own");
    for step in 0..3 {
        let stream = Stream::named("accumulate", step);
        let found = match micro_batches {
            None => whole.losses_and_gradients(&model, batch.clone(), stream, &device, 1.0),
            Some(n) => {
                accumulated_losses_and_gradients(&model, batch.clone(), n, stream, &device, 1.0)
            }
        };
        let (losses, gradients) = found.expect("a step");
        all.push(losses);
        optimizer.step(&mut model, gradients, 0.002);
    }
    (all, weights(&model), start)
}

fn length(of: impl Iterator<Item = f64>) -> f64 {
    of.map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn micro_batches_move_the_weights_as_one_batch_does() {
    let (losses, weights, start) = trained(None);
    let moved = length(weights.iter().zip(&start).map(|(a, b)| a - b));
    let size = length(weights.iter().copied());
    assert!(moved > 1e-4 * size, "moved by {moved} of {size}");
    for n in [1, 2, 4] {
        let (found_losses, found, _) = trained(Some(n));
        let difference = length(found.iter().zip(&weights).map(|(a, b)| a - b));
        println!(
            "{n} micro-batches: weights {:.1e} of their size apart, {:.1e} of the update",
            difference / size,
            difference / moved
        );
        // Sums of f32 over the images of the batch in another order, each off by 6e-8 at most.
        assert!(difference <= 1e-6 * size, "{n}: {difference} of {size}");
        // A weight is rounded by 6e-8 of its size at each step, and the update is some 2e-3 of it: 1.3e-6 of
        // the update was measured.
        assert!(
            difference <= 5e-6 * moved,
            "{n}: {difference} of an update of {moved}"
        );
        for (step, (found, wanted)) in found_losses.iter().zip(&losses).enumerate() {
            for ((_, found), (_, wanted)) in found.named().zip(wanted.named()) {
                let error = (found - wanted).abs();
                assert!(
                    error <= 2e-6 * wanted.abs(),
                    "{n} micro-batches, step {step}: {found}, not {wanted}"
                );
            }
        }
    }
}
