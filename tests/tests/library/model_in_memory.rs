//! Predictors of a model in memory: what the builder changes of it, and what it refuses.

use super::small::{config, small_image};
use burn::tensor::Device;
use mrcnn_core::predict::{PredictError, PredictorBuilder};
use mrcnn_core::weights::import::numbered;
use mrcnn_core::{MaskRcnn, Predictor};

/// A builder with the small network, which has two classes, and its configuration.
fn builder(device: &Device) -> PredictorBuilder<'static> {
    let model = MaskRcnn::new(&config().model, 1, device);
    let builder = Predictor::builder().model(model, numbered(2));
    builder.config(config())
}

fn refused(builder: PredictorBuilder<'_>) -> PredictError {
    builder.build().expect_err("a refusal")
}

#[test]
fn score_and_overrides_reach_the_configuration() {
    let builder = builder(&Device::flex()).overrides(["image.min_size=80"]);
    let predictor = builder.clone().build().expect("a predictor");
    assert_eq!(predictor.config().model, config().model);
    assert_eq!(predictor.config().image.min_size, 80);
    let threshold = |builder: PredictorBuilder<'_>| {
        let predictor = builder.build().expect("a predictor");
        let threshold = predictor.model().config().roi.score_threshold;
        let configured = predictor.config().model.roi.score_threshold;
        assert_eq!(configured, threshold);
        threshold
    };
    // The model keeps scores above its threshold, and 0.5 must be kept.
    assert_eq!(threshold(builder.clone().score(0.5)), 0.5f32.next_down());
    let set = ["model.roi.score_threshold=0.25"];
    assert_eq!(threshold(builder.clone().overrides(set)), 0.25);
    assert_eq!(threshold(builder.score(0.5).overrides(set)), 0.25);
}

#[test]
fn settings_of_the_configuration_are_those_of_the_model() {
    let mut other = config();
    other.model.roi.max_detections = 1;
    other.model.roi.score_threshold = 0.75;
    let builder = builder(&Device::flex()).config(other);
    let predictor = builder.build().expect("a predictor");
    assert_eq!(predictor.config().model, config().model);
}

#[test]
fn overrides_of_other_settings_of_the_model_are_refused() {
    for (setting, key) in [
        ("model.roi.max_detections=1", "model.roi.max_detections"),
        (" model.rpn.post_nms_test = 5", "model.rpn.post_nms_test"),
    ] {
        let error = refused(builder(&Device::flex()).overrides([setting]));
        let is_refused =
            matches!(&error, PredictError::ModelSetting { key: named } if named == key);
        assert!(is_refused, "{setting}: {error:?}");
        assert!(error.to_string().starts_with(key), "{error}");
    }
}

#[test]
fn other_numbers_of_classes_are_refused() {
    for given in [0, 1, 3] {
        let model = MaskRcnn::new(&config().model, 1, &Device::flex());
        let error = refused(Predictor::builder().model(model, numbered(given)));
        let expected = PredictError::Classes { given, expected: 2 };
        assert_eq!(error.to_string(), expected.to_string());
    }
}

#[test]
fn a_score_that_is_not_a_number_is_refused() {
    let error = refused(builder(&Device::flex()).score(f32::NAN));
    assert!(matches!(error, PredictError::Score), "{error:?}");
}

/// A model in training predicts the same as one on a device without gradients.
#[test]
fn a_model_in_training_predicts() {
    let [wanted, found] = [Device::flex(), Device::flex().autodiff()].map(|device| {
        let builder = builder(&device).score(0.0);
        let predictor = builder.build().expect("a predictor");
        let found = predictor.predict(&small_image(90, 70));
        found.expect("a prediction")
    });
    assert!(wanted.len() > 3, "{} detections", wanted.len());
    assert_eq!(found, wanted);
}
