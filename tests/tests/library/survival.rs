//! Difficult inputs: images without objects, odd sizes, many objects.

use super::small::{config, sample, small_image};
use burn::tensor::Device;
use image::RgbImage;
use mrcnn_core::Config;
use mrcnn_core::MaskRcnn;
use mrcnn_core::predict::Predictor;
use mrcnn_core::random::Stream;
use mrcnn_core::train::Losses;
use mrcnn_core::train::parts::{Batch, Optimizer, Replicas, TrainSample};
use mrcnn_core::weights::import::numbered;

/// Takes a training step and returns its losses.
fn train(config: &Config, images: &[(RgbImage, Vec<[f32; 4]>)], device: &Device) -> Vec<f32> {
    let device = device.clone().autodiff();
    let mut model = MaskRcnn::new(&config.model, 1, &device);
    let samples = images
        .iter()
        .map(|(image, boxes)| {
            TrainSample::new(image.clone(), &sample(image, boxes), &config.image, true)
        })
        .collect();
    let batch = Batch::new(samples, config.image.size_divisor);
    let stream = Stream::named("test", 0);
    let (losses, gradients) = Replicas::new(1)
        .expect("threads")
        .losses_and_gradients(&model, batch, stream, &device, 1.0)
        .expect("a step");
    let outcome = Optimizer::new(&config.train).step(&mut model, gradients, 0.01);
    assert!(outcome.is_applied, "gradient norm {}", outcome.grad_norm);
    losses.named().map(|(_, loss)| loss).collect()
}

fn predict(config: &Config, image: &RgbImage, device: &Device) -> usize {
    let model = MaskRcnn::new(&config.model, 1, &device.clone().autodiff());
    let builder = Predictor::builder().model(model, numbered(2));
    let predictor = builder.config(config.clone()).build().expect("a predictor");
    let found = predictor.predict(image).expect("a prediction");
    for detection in &found {
        assert_eq!((detection.mask.w, detection.mask.h), image.dimensions());
        assert!(detection.bbox.iter().all(|v| v.is_finite()));
    }
    found.len()
}

#[test]
fn images_without_objects_give_no_box_and_mask_loss() {
    let losses = train(
        &config(),
        &[(small_image(120, 90), Vec::new())],
        &Device::flex(),
    );
    for (name, loss) in Losses::NAMES.iter().zip(&losses) {
        assert!(loss.is_finite(), "{name} is {loss}");
    }
    let loss = |name: &str| {
        let index = Losses::NAMES.iter().position(|known| *known == name);
        losses[index.expect(name)]
    };
    for name in ["loss_box_reg", "loss_mask", "loss_rpn_box_reg"] {
        assert_eq!(loss(name), 0.0, "{name}");
    }
    // Background anchors are among its samples.
    assert!(loss("loss_objectness") > 0.0);
}

#[test]
fn images_of_every_shape_are_trained_on_and_predicted() {
    for (width, height) in [(1, 1), (4000, 60), (60, 4000), (33, 31)] {
        let image = small_image(width, height);
        let whole = vec![[0.0, 0.0, width as f32, height as f32]];
        let losses = train(&config(), &[(image.clone(), whole)], &Device::flex());
        assert!(
            losses.iter().all(|l| l.is_finite()),
            "{width}x{height}: {losses:?}"
        );
        predict(&config(), &image, &Device::flex());
    }
}

/// All backends take one step from the same weights, with the same losses and gradient.
#[test]
fn a_step_is_the_same_on_every_backend() {
    let mut config = config();
    (config.image.min_size, config.image.max_size) = (64, 64);
    let images = [(
        small_image(64, 64),
        vec![[4.0, 6.0, 40.0, 50.0], [30.0, 20.0, 60.0, 60.0]],
    )];
    let wanted = train(&config, &images, &Device::flex());
    for (kind, device) in mrcnn_tests::devices() {
        let found = train(&config, &images, &device);
        // The sampled RoIs are the same, so only the rounding of sums differs.
        mrcnn_tests::close::assert_close(&kind.to_string(), &found, &wanted, 1e-4);
    }
}

#[test]
fn five_hundred_objects_in_one_image() {
    let image = small_image(400, 300);
    let boxes: Vec<[f32; 4]> = (0..500)
        .map(|i| {
            let (x, y) = ((i % 25 * 16) as f32, (i / 25 * 15) as f32);
            [x, y, x + 11.0, y + 9.0]
        })
        .collect();
    let images = [(image.clone(), boxes), (small_image(50, 70), Vec::new())];
    let losses = train(&config(), &images, &Device::flex());
    assert!(
        losses.iter().all(|l| l.is_finite() && *l > 0.0),
        "{losses:?}"
    );
}

#[test]
fn nothing_found_is_an_answer() {
    let mut config = config();
    config.model.roi.score_threshold = 1.0;
    assert_eq!(predict(&config, &small_image(100, 80), &Device::flex()), 0);
    // With this threshold every proposal would be a detection.
    config.model.roi.score_threshold = 0.0;
    config.model.rpn.min_size = 10_000.0;
    assert_eq!(
        predict(&config, &small_image(100, 80), &Device::flex()),
        0,
        "without a proposal"
    );
}

#[test]
fn losses_are_finite_in_the_range_of_f16() {
    // Logits near the limit of f16 must not overflow the losses.
    use burn::tensor::Tensor;
    let logits = Tensor::<1>::from_floats([-65504.0, -100.0, 0.0, 100.0, 65504.0], &Device::flex());
    let targets = Tensor::<1>::from_floats([1.0, 0.0, 1.0, 1.0, 0.0], &Device::flex());
    let loss = mrcnn_kernels::bce_with_logits(logits, targets);
    let found: Vec<f32> = loss.into_data().iter::<f32>().collect();
    let wanted = [65504.0, 0.0, std::f32::consts::LN_2, 0.0, 65504.0];
    mrcnn_tests::close::assert_close("loss", &found, &wanted, 1e-6);
}
