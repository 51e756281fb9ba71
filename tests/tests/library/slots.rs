//! Selection in slots on every device, against torchvision's numbers and against the definition on slices.

use crate::reference;
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_core::boxes::{AnchorLayout, Anchors, Bbox, pyramid_level};
use mrcnn_core::config::{RoiConfig, RpnConfig};
use mrcnn_core::model::{
    AnchorSlots, BoxSlots, DetectionSlots, ScoredBox, filter_proposals, image_sizes, postprocess,
    roi_rows,
};
use mrcnn_core::random::Stream;
use mrcnn_tests::close::assert_close;
use mrcnn_tests::golden::{Golden, pair};

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn detections(slots: DetectionSlots) -> Vec<Vec<ScoredBox>> {
    pollster::block_on(slots.read()).expect("the device is alive")
}

/// The valid slots of each image.
pub fn valid_slots(slots: BoxSlots) -> Vec<Vec<(Bbox, f32)>> {
    let count = slots.scores.dims()[1];
    let (boxes, scores) = (floats(slots.boxes), floats(slots.scores));
    let boxes = boxes.as_chunks::<4>().0;
    let images = boxes.chunks(count).zip(scores.chunks(count));
    images
        .map(|(boxes, scores)| {
            let pairs = boxes.iter().copied().zip(scores.iter().copied());
            pairs.filter(|(_, score)| score.is_finite()).collect()
        })
        .collect()
}

/// Boxes of an image and their scores, best first. A thousandth of a pixel and 1e-6 are the rounding
/// of exp and sigmoid in f32.
fn ranked_boxes_equal(golden: &Golden, image: usize, found: impl Iterator<Item = ([f32; 4], f32)>) {
    let (boxes, scores): (Vec<_>, Vec<_>) = found.unzip();
    let wanted = |key: &str| golden.get(&format!("{key}{image}")).f32();
    assert_close("boxes", boxes.as_flattened(), &wanted("boxes"), 1e-3);
    assert_close("scores", &scores, &wanted("scores"), 1e-6);
}

#[test]
fn proposals_of_torchvision() {
    let Some(golden) = Golden::open("rpn_filter") else {
        return;
    };
    let json = &golden.json;
    let number = |key: &str| json[key].as_f64().expect("a number");
    let list = |key: &str| json[key].as_array().expect("a list").iter().map(pair);
    let grids: Vec<(usize, usize)> = list("grids")
        .map(|g| (g.0 as usize, g.1 as usize))
        .collect();
    let sizes: Vec<(u32, u32)> = list("image_sizes").collect();
    let padded = pair(&json["padded"]);
    let config = RpnConfig {
        nms_iou: number("nms"),
        min_size: number("min_size") as f32,
        ..RpnConfig::default()
    };
    let padded = (padded.0 as usize, padded.1 as usize);
    let (levels, ratios) = (&config.anchor_sizes, &config.anchor_ratios);
    let anchors = Anchors::new(padded, &grids, levels, ratios, AnchorLayout::default());
    let shape = [sizes.len(), anchors.boxes.len()];
    for (_, device) in mrcnn_tests::devices() {
        let made = AnchorSlots::new(padded, &grids, &config, &device);
        assert_eq!(made.per_level, anchors.per_level);
        assert_eq!(floats(made.boxes.clone()), anchors.boxes.as_flattened());
        others_are_those_of_the_host(padded, &grids, &device);
        let deltas = golden.get("deltas").f32();
        let found = filter_proposals(
            tensor(golden.get("objectness").f32(), shape, &device),
            tensor(deltas, [shape[0], shape[1], 4], &device),
            &made,
            image_sizes(&sizes, &device),
            &config,
            [number("pre_nms") as usize, number("post_nms") as usize],
        );
        for (image, found) in valid_slots(found).into_iter().enumerate() {
            ranked_boxes_equal(&golden, image, found.into_iter());
        }
    }
}

/// Anchors of Detectron2 and of the reference system.
fn others_are_those_of_the_host(padded: (usize, usize), grids: &[(usize, usize)], device: &Device) {
    for offset in [0.0, 0.5] {
        let config = RpnConfig {
            round_anchors: false,
            anchor_offset: offset,
            ..RpnConfig::default()
        };
        let layout = AnchorLayout {
            rounded: false,
            offset,
        };
        let (levels, ratios) = (&config.anchor_sizes, &config.anchor_ratios);
        let wanted = Anchors::new(padded, grids, levels, ratios, layout);
        let made = AnchorSlots::new(padded, grids, &config, device);
        assert_eq!(floats(made.boxes), wanted.boxes.as_flattened());
    }
}

#[test]
fn detections_of_torchvision() {
    let Some(golden) = Golden::open("roi_postprocess") else {
        return;
    };
    let json = &golden.json;
    let config = RoiConfig {
        score_threshold: json["score_thresh"].as_f64().expect("score_thresh") as f32,
        nms_iou: json["nms"].as_f64().expect("nms"),
        max_detections: json["dets"].as_u64().expect("dets") as usize,
        ..RoiConfig::default()
    };
    let sizes: Vec<(u32, u32)> = json["image_sizes"]
        .as_array()
        .expect("sizes")
        .iter()
        .map(pair)
        .collect();
    let rois: Vec<Vec<Bbox>> = (0..sizes.len())
        .map(|image| golden.get(&format!("prop{image}")).boxes())
        .collect();
    let classes = golden.get("cls").shape[1];
    let (logits, deltas) = (golden.get("cls").f32(), golden.get("reg").f32());
    for (_, device) in mrcnn_tests::devices() {
        let found = in_slots(&logits, &deltas, classes, &rois, &sizes, &config, &device);
        for (image, found) in found.into_iter().enumerate() {
            let labels: Vec<usize> = found.iter().map(|d| d.label).collect();
            assert_eq!(labels, golden.get(&format!("labels{image}")).indices());
            let found = found.iter().map(|d| (d.bbox, d.score));
            ranked_boxes_equal(&golden, image, found);
        }
    }
}

/// `logits [r, classes]` and `deltas [r, 4 classes]` of all images' RoIs one after another, in
/// slots: as many per image as the image with the most RoIs needs, and three more.
fn in_slots(
    logits: &[f32],
    deltas: &[f32],
    classes: usize,
    rois: &[Vec<Bbox>],
    sizes: &[(u32, u32)],
    config: &RoiConfig,
    device: &Device,
) -> Vec<Vec<ScoredBox>> {
    let n = rois.len();
    let r = rois.iter().map(Vec::len).max().unwrap_or(0) + 3;
    let mut slot_logits = vec![9.0; n * r * classes];
    let mut slot_deltas = vec![f32::NAN; n * r * classes * 4];
    let mut boxes = vec![[0.0; 4]; n * r];
    let mut scores = vec![f32::NEG_INFINITY; n * r];
    let mut from = 0;
    for (image, rois) in rois.iter().enumerate() {
        for (slot, &roi) in rois.iter().enumerate() {
            let to = image * r + slot;
            let logits = &logits[from * classes..][..classes];
            slot_logits[to * classes..][..classes].copy_from_slice(logits);
            let deltas = &deltas[from * classes * 4..][..classes * 4];
            slot_deltas[to * classes * 4..][..classes * 4].copy_from_slice(deltas);
            (boxes[to], scores[to]) = (roi, 0.5);
            from += 1;
        }
    }
    let proposals = BoxSlots {
        boxes: tensor(boxes.into_flattened(), [n, r, 4], device),
        scores: tensor(scores, [n, r], device),
    };
    detections(postprocess(
        tensor(slot_logits, [n * r, classes], device),
        tensor(slot_deltas, [n * r, classes * 4], device),
        &proposals,
        image_sizes(sizes, device),
        config,
    ))
}

/// Normal noise with some NaN and infinite values.
fn broken_noise(stream: Stream, count: usize, scale: f32) -> Vec<f32> {
    let broken = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    (0..count as u64)
        .map(|i| match stream.bits(i) % 301 {
            kind @ 0..3 => broken[kind as usize],
            _ => stream.normal(i) as f32 * scale,
        })
        .collect()
}

/// Boxes within a thousandth of a pixel, scores within the rounding error of exp.
fn assert_same(found: &[(Bbox, f32)], wanted: &[(Bbox, f32)]) {
    assert_eq!(found.len(), wanted.len());
    let split = |all: &[(Bbox, f32)]| -> (Vec<f32>, Vec<f32>) {
        let boxes = all.iter().flat_map(|(bbox, _)| *bbox).collect();
        (boxes, all.iter().map(|(_, score)| *score).collect())
    };
    let ((boxes, scores), (wanted_boxes, wanted_scores)) = (split(found), split(wanted));
    assert_close("boxes", &boxes, &wanted_boxes, 1e-3);
    assert_close("scores", &scores, &wanted_scores, 1e-6);
}

#[test]
fn proposals_by_definition_with_broken_numbers() {
    let config = RpnConfig::default();
    let grids = [(40, 56), (20, 28), (10, 14), (5, 7), (3, 4)];
    let (levels, ratios) = (&config.anchor_sizes, &config.anchor_ratios);
    let anchors = Anchors::new((160, 224), &grids, levels, ratios, AnchorLayout::default());
    let sizes = [(160, 200), (131, 224), (1, 1)];
    let (n, count) = (sizes.len(), anchors.boxes.len());
    let mut objectness = broken_noise(Stream::named("objectness", 0), n * count, 2.0);
    // A slot with a score of minus infinity is empty: the one difference to the definition.
    objectness
        .iter_mut()
        .filter(|v| **v == f32::NEG_INFINITY)
        .for_each(|v| *v = f32::NAN);
    let deltas = broken_noise(Stream::named("deltas", 0), n * count * 4, 0.5);
    for (_, device) in mrcnn_tests::devices() {
        let made = AnchorSlots::new((160, 224), &grids, &config, &device);
        for limits in [[300, 200], [50, 400], [2000, 1]] {
            let found = filter_proposals(
                tensor(objectness.clone(), [n, count], &device),
                tensor(deltas.clone(), [n, count, 4], &device),
                &made,
                image_sizes(&sizes, &device),
                &config,
                limits,
            );
            for (image, found) in valid_slots(found).into_iter().enumerate() {
                let objectness = &objectness[image * count..][..count];
                let deltas = &deltas[image * count * 4..][..count * 4];
                let size = sizes[image];
                let wanted = reference::filter_proposals(
                    objectness, deltas, &anchors, size, &config, limits,
                );
                assert_same(&found, &wanted);
            }
        }
    }
}

fn random_rois(stream: Stream, count: usize) -> Vec<Bbox> {
    (0..count as u64)
        .map(|i| {
            let u = |k: u64| stream.uniform(4 * i + k) as f32;
            let (x, y) = (u(0) * 600.0, u(1) * 400.0);
            [x, y, x + 1.0 + u(2) * 300.0, y + 1.0 + u(3) * 300.0]
        })
        .collect()
}

#[test]
fn detections_by_definition_with_broken_numbers() {
    let config = RoiConfig::default();
    let (classes, sizes) = (11, [(400, 600), (480, 640), (100, 100)]);
    let counts = [90, 0, 57];
    let rois: Vec<Vec<Bbox>> = (0..3)
        .map(|i| random_rois(Stream::named("rois", i), counts[i as usize]))
        .collect();
    let total: usize = counts.iter().sum();
    let logits = broken_noise(Stream::named("logits", 0), total * classes, 2.0);
    let deltas = broken_noise(Stream::named("deltas", 1), total * classes * 4, 1.0);
    for (_, device) in mrcnn_tests::devices() {
        let found = in_slots(&logits, &deltas, classes, &rois, &sizes, &config, &device);
        let mut first = 0;
        for (image, found) in found.iter().enumerate() {
            let rois = &rois[image];
            let wanted = reference::postprocess(
                &logits[first * classes..][..rois.len() * classes],
                &deltas[first * classes * 4..][..rois.len() * classes * 4],
                rois,
                sizes[image],
                &config,
            );
            first += rois.len();
            let labels = |all: &[ScoredBox]| all.iter().map(|d| d.label).collect::<Vec<_>>();
            assert_eq!(labels(found), labels(&wanted));
            let pairs = |all: &[ScoredBox]| -> Vec<(Bbox, f32)> {
                all.iter().map(|d| (d.bbox, d.score)).collect()
            };
            assert_same(&pairs(found), &pairs(&wanted));
        }
    }
}

#[test]
fn slots_are_pooled_from_the_level_of_their_size() {
    let mut boxes = random_rois(Stream::named("levels", 0), 500);
    // Exactly on the borders between levels.
    boxes.extend([112.0, 224.0, 448.0].map(|side| [8.0, 8.0, 8.0 + side, 8.0 + side]));
    boxes.extend([[5.0; 4], [0.0, 0.0, 1e4, 1e4]]);
    boxes.push([0.0; 4]);
    let count = boxes.len() / 2;
    for (_, device) in mrcnn_tests::devices() {
        let slots = tensor(boxes.as_flattened().to_vec(), [2, count, 4], &device);
        let rows = floats(roi_rows(slots, (2, 5)));
        for (i, (row, bbox)) in rows.as_chunks::<6>().0.iter().zip(&boxes).enumerate() {
            let level = pyramid_level(bbox, 2, 5) as f32;
            assert_eq!(row[..2], [(i / count) as f32, level], "{bbox:?}");
            assert_eq!(row[2..], *bbox);
        }
    }
}
