//! Test-time augmentation: one view, two views that are each other's mirror image, and what their mean is.

use super::small::{config, small_image};
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use image::imageops::flip_horizontal;
use mrcnn_core::boxes::iou;
use mrcnn_core::data::Classes;
use mrcnn_core::image::paste::paste_to_rle;
use mrcnn_core::image::transform::prepare;
use mrcnn_core::model::ScoredBox;
use mrcnn_core::predict::{MASK_THRESHOLD, TileSettings, TtaSettings};
use mrcnn_core::{MaskRcnn, Prediction, Predictor};
use vernier_mask::Rle;

/// Width and height of an image that is not resized.
const SIZE: (u32, u32) = (128, 96);

/// A network with random weights, whose scores are low.
fn predictor() -> Predictor {
    let mut config = config();
    config.model.roi.score_threshold = 0.0;
    let classes = Classes {
        names: vec!["cat".into(), "dog".into()],
        ids: vec![17, 18],
    };
    let model = MaskRcnn::new(&config.model, 1, &Device::flex());
    let builder = Predictor::builder().model(model, classes).config(config);
    builder.build().expect("a predictor")
}

fn with(scales: &[f32], flip: bool) -> Predictor {
    let scales = scales.to_vec();
    let predictor = predictor().with_tta(TtaSettings { scales, flip });
    predictor.expect("valid views")
}

fn predict(predictor: &Predictor, image: &RgbImage) -> Prediction {
    let found = predictor.predict(image).expect("a prediction");
    assert!(found.len() > 3);
    found
}

fn mirrored([x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
    let width = SIZE.0 as f32;
    [width - x2, y1, width - x1, y2]
}

fn distance(a: [f32; 4], b: [f32; 4]) -> f32 {
    let moved = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    moved.fold(0.0, f32::max)
}

#[test]
fn one_view_is_the_plain_prediction_bit_for_bit() {
    for (width, height) in [SIZE, (90, 70), (61, 140)] {
        let image = small_image(width, height);
        let plain = predict(&predictor(), &image);
        assert_eq!(predict(&with(&[1.0], false), &image), plain);
        assert!(predict(&with(&[1.25], false), &image) != plain);
    }
}

#[test]
fn a_mirrored_image_gives_mirrored_detections() {
    let image = small_image(SIZE.0, SIZE.1);
    let predictor = with(&[1.0, 0.75], true);
    let found = predict(&predictor, &image);
    let twin = predict(&predictor, &flip_horizontal(&image));
    assert_eq!(found.len(), twin.len());
    let (mut shared, mut either) = (0, 0);
    for (a, b) in found.iter().zip(twin.iter()) {
        assert_eq!((a.label, a.score), (b.label, b.score));
        assert!(distance(mirrored(a.bbox), b.bbox) < 1e-3);
        let [a, b] = [&a.mask, &b.mask].map(|mask| mask.to_row_major_raster_bytes());
        let rows = a.chunks(SIZE.0 as usize).zip(b.chunks(SIZE.0 as usize));
        for (a, b) in rows.flat_map(|(a, b)| a.iter().zip(b.iter().rev())) {
            (shared, either) = (shared + u32::from(a & b), either + u32::from(a | b));
        }
    }
    // Boxes are rounded to pixels when a mask is pasted, which is not symmetric.
    assert!(shared * 100 > either * 95, "{shared} of {either} pixels");
    // The mirror image alone gives other detections.
    let plain = [&image, &flip_horizontal(&image)].map(|image| predict(&self::predictor(), image));
    let moved = plain[0].iter().zip(plain[1].iter());
    assert!(
        moved
            .map(|(a, b)| distance(mirrored(a.bbox), b.bbox))
            .fold(0.0, f32::max)
            > 1.0
    );
}

/// Boxes and masks of both views, computed from the stages of the model.
#[test]
fn boxes_and_masks_are_the_means_of_the_views() {
    let predictor = predictor();
    let image = small_image(SIZE.0, SIZE.1);
    let views = [image.clone(), flip_horizontal(&image)];
    let found = predict(&with(&[1.0], true), &image);

    // The boxes of both views, best first, without those that a better one of their class overlaps.
    let (mut all, threshold) = (Vec::new(), predictor.config().model.roi.nms_iou);
    for (index, view) in views.iter().enumerate() {
        for object in &predict(&predictor, view) {
            let bbox = [object.bbox, mirrored(object.bbox)][index];
            all.push((index, bbox, object.label, object.score));
        }
    }
    all.sort_by(|a, b| b.3.total_cmp(&a.3));
    let agree = |a: &(usize, [f32; 4], usize, f32), b: &(usize, [f32; 4], usize, f32)| {
        a.2 == b.2 && f64::from(iou(&a.1, &b.1)) > threshold
    };
    let mut kept: Vec<(usize, [f32; 4], usize, f32)> = Vec::new();
    for &other in &all {
        if !kept.iter().any(|better| agree(better, &other)) {
            kept.push(other);
        }
    }
    let (mut wanted, mut voted) = (Vec::new(), 0);
    for object in &kept {
        let voters: Vec<_> = all.iter().filter(|other| agree(object, other)).collect();
        let weight: f32 = voters.iter().map(|voter| voter.3).sum();
        let side = |side: usize| {
            voters
                .iter()
                .map(|voter| voter.3 * voter.1[side])
                .sum::<f32>()
        };
        let best = |view: usize| {
            voters
                .iter()
                .find(|voter| voter.0 == view)
                .map_or(0.0, |v| v.3)
        };
        let mean = (best(0) + best(1)) / 2.0;
        wanted.push((
            std::array::from_fn(|index| side(index) / weight),
            object.2,
            mean,
        ));
        voted += usize::from(voters.len() > 1);
    }
    assert!(voted > 3, "{voted} of {} boxes", kept.len());
    wanted.sort_by(|a, b| b.2.total_cmp(&a.2));
    assert_eq!(
        found.len(),
        wanted
            .len()
            .min(predictor.config().model.roi.max_detections)
    );
    for (object, (bbox, label, score)) in found.iter().zip(wanted) {
        assert!((object.score - score).abs() < 1e-6);
        // Boxes of about the same score may have another order.
        let near = found
            .iter()
            .filter(|other| (other.score - score).abs() < 1e-6 && other.label == label);
        assert!(
            near.map(|other| distance(other.bbox, bbox))
                .fold(f32::MAX, f32::min)
                < 1e-3
        );
    }

    let in_view = |is_flipped: bool| {
        let of = |object: mrcnn_core::predict::Object<'_>| ScoredBox {
            bbox: if is_flipped {
                mirrored(object.bbox)
            } else {
                object.bbox
            },
            label: object.label,
            score: object.score,
        };
        found.iter().map(of).collect::<Vec<_>>()
    };
    let masks = [0, 1].map(|view| {
        let planes = [prepare(&views[view], &predictor.config().image)];
        let (input, _) = predictor.input(&planes);
        let model = predictor.model();
        let detected = model.detect_masks(&model.features(input), vec![in_view(view == 1)]);
        Tensor::cat(detected.masks, 0)
    });
    let [upright, flipped] = masks;
    let mean = (upright + flipped.flip([2])).div_scalar(2.0);
    let places: Vec<_> = found
        .iter()
        .map(|object| (object.bbox, (SIZE.1, SIZE.0)))
        .collect();
    let wanted = pollster::block_on(paste_to_rle(mean, &places, MASK_THRESHOLD));
    let masks: Vec<Rle> = found
        .detections
        .iter()
        .map(|object| object.mask.clone())
        .collect();
    assert_eq!(masks, wanted.expect("masks"));
}

#[test]
fn batches_and_tiles_are_augmented_too() {
    let predictor = with(&[1.0, 1.25], true);
    let images = [small_image(90, 70), small_image(SIZE.0, SIZE.1)];
    let batch = predictor.predict_batch(&images).expect("predictions");
    for (found, image) in batch.iter().zip(&images) {
        assert_eq!(found, &predict(&predictor, image));
    }
    let large = TileSettings {
        size: 200,
        overlap: 0.25,
    };
    let tiled = predictor.predict_tiled(&images[1], &large, &mut |_, _| ());
    assert_eq!(tiled.expect("a prediction"), batch[1]);
}

#[test]
fn views_that_cannot_be_are_refused() {
    for scales in [vec![], vec![f32::NAN], vec![1.0, 0.01]] {
        let refused = predictor().with_tta(TtaSettings { scales, flip: true });
        let error = refused.expect_err("a refusal").to_string();
        assert!(error.contains("each from 0.1 to 10"), "{error}");
    }
}
