//! Stages between the operators and the model: transform, proposals, detections, targets, losses.

use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_core::boxes::{self, Anchors, Match, Matcher};
use mrcnn_core::config::{ImageConfig, RoiConfig, RpnConfig};
use mrcnn_core::image::transform::{Planes, nearest_taps, output_size, resize_bilinear, stack};
use mrcnn_core::model::{Rois, filter_proposals, postprocess};
use mrcnn_core::train::parts::{
    InstanceMask, MaskSamples, RoiSamples, box_losses, mask_loss, project_mask,
};
use mrcnn_tests::close::assert_close;
use mrcnn_tests::golden::{Case, Golden, Stored, pair};
use vernier_mask::Rle;

#[test]
fn output_sizes() {
    let Some(golden) = Golden::open("resize_table") else {
        return;
    };
    let rows = golden.json["rows"].as_array().expect("rows");
    assert!(!rows.is_empty());
    for row in rows {
        let number = |i: usize| row[i].as_u64().expect("a length") as u32;
        let [h, w, min_size, max_size, oh, ow] = std::array::from_fn(number);
        assert_eq!(output_size(h, w, min_size, max_size), (oh, ow), "{row}");
    }
}

fn transform_case(case: &Case<'_>) {
    let (min_size, max_size) = (
        case.number("min_size") as u32,
        case.number("max_size") as u32,
    );
    let config = ImageConfig {
        min_size,
        max_size,
        ..ImageConfig::default()
    };
    let inputs = case.json["in_hw"].as_array().expect("sizes");
    let mut resized = Vec::new();
    for (index, size) in inputs.iter().enumerate() {
        let from = pair(size);
        let to = output_size(from.0, from.1, min_size, max_size);
        assert_eq!(
            to,
            pair(&case.json["out_hw"][index]),
            "{} image {index}",
            case.name()
        );
        let planes = normalized(case.get(&format!("img{index}")), &config);
        resized.push(resize_bilinear(&planes, to));
        let boxes = case.get(&format!("boxes{index}")).boxes();
        let found: Vec<f32> = boxes
            .iter()
            .flat_map(|b| boxes::resize(b, from, to))
            .collect();
        let wanted = case.get(&format!("boxes_out{index}")).f32();
        assert_close(
            &format!("{} boxes {index}", case.name()),
            &found,
            &wanted,
            1e-4,
        );
        masks_case(case, index, from, to);
    }
    let (values, shape) = stack(&resized.iter().collect::<Vec<_>>(), config.size_divisor);
    let wanted = case.get("batch");
    assert_eq!(shape.to_vec(), wanted.shape, "{}", case.name());
    // torch rounds the bilinear weights differently: 1e-6 of a coordinate up to 100, times slopes
    // between noisy pixels of up to 5 standard deviations. Its own f32-vs-f64 noise here is 9.6e-5.
    assert_close(case.name(), &values, &wanted.f32(), 5e-5);
}

fn normalized(image: &Stored, config: &ImageConfig) -> Planes {
    let (height, width) = (image.shape[1], image.shape[2]);
    let values = image.f32();
    let planes = values.chunks(height * width).enumerate();
    let values = planes
        .flat_map(|(c, plane)| plane.iter().map(move |v| (c, v)))
        .map(|(c, v)| (v - config.mean[c]) / config.std[c])
        .collect();
    Planes {
        values,
        height,
        width,
    }
}

fn masks_case(case: &Case<'_>, index: usize, from: (u32, u32), to: (u32, u32)) {
    let masks = case.get(&format!("masks{index}")).f32();
    let (width, cells) = (from.1 as usize, (from.0 * from.1) as usize);
    let rows = nearest_taps(to.0 as usize, from.0 as usize);
    let columns = nearest_taps(to.1 as usize, from.1 as usize);
    let found: Vec<f32> = masks
        .chunks(cells)
        .flat_map(|mask| {
            let columns = &columns;
            rows.iter()
                .flat_map(move |row| columns.iter().map(move |c| mask[row * width + c]))
        })
        .collect();
    let wanted = case.get(&format!("masks_out{index}")).f32();
    assert_eq!(found, wanted, "{} masks {index}", case.name());
}

#[test]
fn images_boxes_and_masks_are_transformed() {
    let Some(golden) = Golden::open("transform") else {
        return;
    };
    golden.cases().iter().for_each(transform_case);
}

/// Boxes of an image and their scores, best first. A thousandth of a pixel and 1e-6 are the rounding
/// of exp and sigmoid in f32.
pub(crate) fn ranked_boxes_equal(
    golden: &Golden,
    image: usize,
    found: impl Iterator<Item = ([f32; 4], f32)>,
) {
    let (boxes, scores): (Vec<_>, Vec<_>) = found.unzip();
    let wanted = |key: &str| golden.get(&format!("{key}{image}")).f32();
    assert_close("boxes", boxes.as_flattened(), &wanted("boxes"), 1e-3);
    assert_close("scores", &scores, &wanted("scores"), 1e-6);
}

#[test]
fn proposals_are_filtered() {
    let Some(golden) = Golden::open("rpn_filter") else {
        return;
    };
    let json = &golden.json;
    let number = |key: &str| json[key].as_f64().expect("a number");
    let grids: Vec<(usize, usize)> = json["grids"]
        .as_array()
        .expect("grids")
        .iter()
        .map(|grid| (pair(grid).0 as usize, pair(grid).1 as usize))
        .collect();
    let padded = pair(&json["padded"]);
    let config = RpnConfig {
        nms_iou: number("nms"),
        min_size: number("min_size") as f32,
        ..RpnConfig::default()
    };
    let padded = (padded.0 as usize, padded.1 as usize);
    let anchors = Anchors::new(
        padded,
        &grids,
        &config.anchor_sizes,
        &config.anchor_ratios,
        true,
    );
    assert_eq!(anchors.boxes, golden.get("anchors").boxes());
    let count = anchors.boxes.len();
    let (objectness, deltas) = (golden.get("objectness").f32(), golden.get("deltas").f32());
    for (image, size) in json["image_sizes"]
        .as_array()
        .expect("sizes")
        .iter()
        .enumerate()
    {
        let found = filter_proposals(
            &objectness[image * count..][..count],
            &deltas[image * count * 4..][..count * 4],
            &anchors,
            pair(size),
            &config,
            [number("pre_nms") as usize, number("post_nms") as usize],
        );
        let found = found.iter().map(|p| (p.bbox, p.score));
        ranked_boxes_equal(&golden, image, found);
    }
}

#[test]
fn detections_are_postprocessed() {
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
    let (logits, deltas) = (golden.get("cls"), golden.get("reg"));
    let classes = logits.shape[1];
    let (logits, deltas) = (logits.f32(), deltas.f32());
    let mut first = 0;
    for (image, size) in json["image_sizes"]
        .as_array()
        .expect("sizes")
        .iter()
        .enumerate()
    {
        let rois = golden.get(&format!("prop{image}")).boxes();
        let found = postprocess(
            &logits[first * classes..][..rois.len() * classes],
            &deltas[first * classes * 4..][..rois.len() * classes * 4],
            &rois,
            pair(size),
            &config,
        );
        first += rois.len();
        let labels: Vec<usize> = found.iter().map(|d| d.label).collect();
        assert_eq!(labels, golden.get(&format!("labels{image}")).indices());
        let found = found.iter().map(|d| (d.bbox, d.score));
        ranked_boxes_equal(&golden, image, found);
    }
    assert!(postprocess(&[], &[], &[], (100, 100), &config).is_empty());
}

#[test]
fn targets_are_assigned() {
    let Some(golden) = Golden::open("assign_targets") else {
        return;
    };
    let (gt, anchors) = (golden.get("gt").boxes(), golden.get("anchors").boxes());
    let rpn = RpnConfig::default();
    let matcher = Matcher {
        fg_iou: rpn.fg_iou,
        bg_iou: rpn.bg_iou,
        allow_low_quality: true,
    };
    let label = |found: &Match| match found {
        Match::Object(_) => 1.0,
        Match::Background => 0.0,
        Match::Ignored => -1.0,
    };
    let matches = matcher.match_boxes(&gt, &anchors);
    let labels: Vec<f64> = matches.iter().map(label).collect();
    assert_eq!(labels, golden.get("rpn_labels").values);
    let wanted = golden.get("rpn_matched_gt").boxes();
    for (found, wanted) in matches.iter().zip(&wanted) {
        if let Match::Object(index) = found {
            assert_eq!(gt[*index], *wanted);
        }
    }
    let empty: Vec<f64> = matcher
        .match_boxes(&[], &anchors)
        .iter()
        .map(label)
        .collect();
    assert_eq!(empty, golden.get("rpn_labels_empty").values);

    let roi = RoiConfig::default();
    let matcher = Matcher {
        fg_iou: roi.fg_iou,
        bg_iou: roi.bg_iou,
        allow_low_quality: false,
    };
    let matches = matcher.match_boxes(&gt, &golden.get("proposals").boxes());
    let truth_labels = golden.get("gt_labels").indices();
    let (wanted, matched) = (
        golden.get("roi_labels").indices(),
        golden.get("roi_matched").indices(),
    );
    for (index, found) in matches.iter().enumerate() {
        match found {
            Match::Object(object) => {
                assert_eq!(
                    (truth_labels[*object], *object),
                    (wanted[index], matched[index])
                );
            }
            _ => assert_eq!(wanted[index], 0, "proposal {index}"),
        }
    }
}

fn indices(labels: &[usize], device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
    Tensor::from_data(labels.as_slice(), device)
}

fn joined(golden: &Golden, key: &str) -> Vec<f32> {
    [0, 1]
        .iter()
        .flat_map(|i| golden.get(&format!("{key}{i}")).f32())
        .collect()
}

#[test]
fn box_losses_and_their_gradients() {
    let Some(golden) = Golden::open("losses") else {
        return;
    };
    let labels: Vec<usize> = joined(&golden, "labels")
        .iter()
        .map(|&v| v as usize)
        .collect();
    let targets = joined(&golden, "reg_targets");
    let count = labels.len();
    for (_, device) in mrcnn_tests::devices() {
        let device = device.autodiff();
        let leaf = |key: &str| {
            let stored = golden.get(key);
            let data = TensorData::new(stored.f32(), stored.shape.clone());
            Tensor::<2>::from_data(data, &device).require_grad()
        };
        let (logits, deltas) = (leaf("cls_logits"), leaf("box_regression"));
        let samples = RoiSamples {
            rois: Rois::new(&vec![(0, [0.0; 4]); count], &device),
            labels: indices(&labels, &device),
            deltas: Tensor::from_data(TensorData::new(targets.clone(), [count, 4]), &device),
            valid: Tensor::ones([count], &device),
        };
        let divisor = Tensor::from_floats([count as f32], &device);
        let (class, boxes) = box_losses(logits.clone(), deltas.clone(), &samples, divisor);
        close("loss_classifier", class.clone(), &golden);
        close("loss_box_reg", boxes.clone(), &golden);
        let gradients = (class + boxes).backward();
        close(
            "grad_cls",
            logits.grad(&gradients).expect("gradient"),
            &golden,
        );
        close(
            "grad_box",
            deltas.grad(&gradients).expect("gradient"),
            &golden,
        );
    }
}

/// Means over tens to thousands of terms: f32 rounding.
fn close<const D: usize>(key: &str, found: Tensor<D>, golden: &Golden) {
    let found: Vec<f32> = found.into_data().iter::<f32>().collect();
    assert_close(key, &found, &golden.get(key).f32(), 2e-6);
}

#[test]
fn mask_targets_loss_and_gradient() {
    let Some(golden) = Golden::open("losses") else {
        return;
    };
    let side = golden.get("mask_targets").shape[1];
    let (mut targets, mut labels) = (Vec::new(), Vec::new());
    for image in 0..2 {
        let masks = golden.get(&format!("gt_masks{image}"));
        let (height, width) = (masks.shape[1], masks.shape[2]);
        let bytes: Vec<u8> = masks.values.iter().map(|&v| v as u8).collect();
        let masks: Vec<InstanceMask> = bytes
            .chunks(height * width)
            .map(|mask| {
                let rle = Rle::from_row_major_raster_bytes(mask, height as u32, width as u32);
                InstanceMask::new(&rle.expect("a mask"), (height, width), false)
            })
            .collect();
        let truth_labels = golden.get(&format!("gt_labels{image}")).indices();
        let proposals = golden.get(&format!("proposals{image}")).boxes();
        let matched = golden.get(&format!("matched{image}")).indices();
        for (roi, object) in proposals.iter().zip(matched) {
            targets.extend(project_mask(&masks[object], roi, side));
            labels.push(truth_labels[object]);
        }
    }
    assert_close(
        "mask targets",
        &targets,
        &golden.get("mask_targets").f32(),
        1e-5,
    );
    for (_, device) in mrcnn_tests::devices() {
        let device = device.autodiff();
        let stored = golden.get("mask_logits");
        let data = TensorData::new(stored.f32(), stored.shape.clone());
        let logits = Tensor::<4>::from_data(data, &device).require_grad();
        let count = labels.len();
        let data = TensorData::new(targets.clone(), [count, side * side]);
        let samples = MaskSamples {
            rois: Rois::new(&vec![(0, [0.0; 4]); count], &device),
            labels: indices(&labels, &device),
            targets: Tensor::from_data(data, &device),
            valid: Tensor::ones([count], &device),
        };
        let divisor = Tensor::from_floats([count as f32], &device);
        let loss = mask_loss(logits.clone(), &samples, divisor);
        close("loss_mask", loss.clone(), &golden);
        close(
            "grad_mask",
            logits.grad(&loss.backward()).expect("gradient"),
            &golden,
        );
    }
}
