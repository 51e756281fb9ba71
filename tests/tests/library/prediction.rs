//! The interface of prediction: valid and invalid inputs of the builder, and the results.

use super::small::{config, small_image};
use burn::tensor::Device;
use image::RgbImage;
use mrcnn_backends::BackendKind;
use mrcnn_core::data::Classes;
use mrcnn_core::predict::{PredictError, PredictorBuilder, WeightsSource};
use mrcnn_core::weights::{Checkpoint, save, state_dict};
use mrcnn_core::{MaskRcnn, Predictor};

fn classes() -> Classes {
    Classes {
        names: vec!["cat".into(), "dog".into()],
        ids: vec![17, 18],
    }
}

/// Weights that detect objects: random weights have low scores for every class.
fn weights() -> Vec<u8> {
    let model = MaskRcnn::new(&config().model, 1, &Device::flex());
    let checkpoint = Checkpoint {
        config: config(),
        classes: classes(),
        training: None,
        tensors: state_dict(&model),
    };
    checkpoint.to_bytes().expect("weights")
}

fn builder<'a>(weights: impl Into<WeightsSource<'a>>) -> PredictorBuilder<'a> {
    Predictor::builder()
        .weights(weights)
        .device(&Device::flex())
}

fn refused(builder: PredictorBuilder<'_>) -> String {
    builder.build().expect_err("a refusal").to_string()
}

#[test]
fn weights_are_a_path_or_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("best.safetensors");
    let model = MaskRcnn::new(&config().model, 1, &Device::flex());
    save(&path, &model, &config(), &classes(), None).expect("weights");
    let (bytes, image) = (weights(), small_image(90, 70));
    let from_path = builder(&path).build().expect("a predictor");
    let from_bytes = builder(&bytes).build().expect("a predictor");
    let found = from_path.predict(&image).expect("a prediction");
    assert!(!found.is_empty());
    assert_eq!(found, from_bytes.predict(&image).expect("a prediction"));
    assert_eq!((found.width, found.height), (90, 70));
    assert_eq!(found.classes(), &classes());
    for object in &found {
        assert!(["cat", "dog"].contains(&object.name.as_str()));
        assert_eq!((object.mask.w, object.mask.h), (90, 70));
    }
}

#[test]
fn what_cannot_be_built_is_refused_in_words() {
    let bytes = weights();
    assert!(refused(Predictor::builder()).contains(".weights(path)"));
    assert!(refused(builder("none.safetensors")).contains("none.safetensors"));
    assert!(refused(builder(b"no weights")).contains("the given bytes"));
    assert!(refused(builder(&bytes).score(f32::NAN)).contains("NaN"));
    let unknown = builder(&bytes).overrides(["image.minsize=3"]);
    assert!(refused(unknown).contains("image.minsize"));
    let cuda = Predictor::builder()
        .weights(&bytes)
        .backend(BackendKind::Cuda);
    assert!(refused(cuda).contains("cuda backend"));
    let mut other = config();
    other.model.width = 16;
    assert!(refused(builder(&bytes).config(other)).contains("do not match"));
}

#[test]
fn score_and_overrides_change_what_is_found() {
    let (bytes, image) = (weights(), small_image(90, 70));
    let found = |builder: PredictorBuilder<'_>| {
        let predictor = builder.build().expect("a predictor");
        predictor.predict(&image).expect("a prediction")
    };
    let all = found(builder(&bytes).score(0.0));
    assert!(all.len() > 3);
    // A score in the middle: it and higher ones are kept, bit-equal.
    let middle = all.detections[all.len() / 2].score;
    let better = found(builder(&bytes).score(middle));
    let wanted = all.iter().filter(|object| object.score >= middle).count();
    assert_eq!(better.len(), wanted);
    assert_eq!(better.detections[0].bbox, all.detections[0].bbox);
    assert!(found(builder(&bytes).score(1.1)).is_empty());
    let few = builder(&bytes).overrides(["model.roi.max_detections=2"]);
    assert_eq!(found(few.score(0.0)).len(), 2);
    // A threshold that is set by its key takes precedence over the score.
    let threshold = format!("model.roi.score_threshold={middle:?}");
    let set = found(builder(&bytes).overrides([threshold]).score(0.0));
    let above = all.iter().filter(|object| object.score > middle).count();
    assert_eq!(set.len(), above);
}

#[test]
fn batches_and_their_asynchronous_twins_find_the_same() {
    let predictor = builder(weights()).build().expect("a predictor");
    let images = [
        small_image(90, 70),
        RgbImage::new(90, 70),
        small_image(90, 70),
    ];
    assert_eq!(predictor.input_size(90, 70), (96, 128));
    let batch = predictor.predict_batch(&images).expect("predictions");
    let again = pollster::block_on(predictor.predict_batch_async(&images)).expect("predictions");
    assert_eq!(batch, again);
    let alone = predictor.predict(&images[0]).expect("a prediction");
    let twin = pollster::block_on(predictor.predict_async(&images[0])).expect("a prediction");
    assert_eq!(alone, twin);
    // Not bit-equal: matrix products of another height may sum in another order.
    for found in [&batch[0], &batch[2]] {
        assert_eq!(found.len(), alone.len());
        for (a, b) in found.iter().zip(alone.iter()) {
            assert_eq!(a.label, b.label);
            assert!((a.score - b.score).abs() < 1e-5);
            let moved = a.bbox.iter().zip(b.bbox).map(|(a, b)| (a - b).abs());
            assert!(moved.fold(0.0, f32::max) < 1e-3);
        }
    }
    let nothing: [RgbImage; 0] = [];
    assert!(predictor.predict_batch(&nothing).expect("none").is_empty());
}

#[test]
fn an_image_without_pixels_is_named() {
    let predictor = builder(weights()).build().expect("a predictor");
    let images = [small_image(20, 20), RgbImage::new(0, 7)];
    let error = predictor.predict_batch(&images).expect_err("a refusal");
    assert!(matches!(error, PredictError::EmptyImage { index: 1, .. }));
    assert!(error.to_string().contains("0x7"), "{error}");
}

#[test]
fn a_predictor_is_shared_between_threads() {
    let predictor = builder(weights()).build().expect("a predictor");
    let image = small_image(64, 48);
    let wanted = predictor.predict(&image).expect("a prediction");
    std::thread::scope(|scope| {
        let ask = || predictor.predict(&image).expect("a prediction");
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), wanted);
        }
    });
}
