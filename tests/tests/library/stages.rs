//! Stages between the operators and the model: transform, proposals, detections, targets, losses.

use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_core::boxes::{self, Bbox};
use mrcnn_core::config::{ImageConfig, RoiConfig, RpnConfig};
use mrcnn_core::image::transform::{Planes, nearest_taps, output_size, resize_bilinear, stack};
use mrcnn_core::model::Rois;
use mrcnn_core::train::parts::{InstanceMask, RoiSamples, bit_masks, box_losses, mask_loss};
use mrcnn_kernels::{
    BACKGROUND, Count, Divisor, IGNORED, MatchThresholds, mask_targets, match_boxes,
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

#[test]
fn targets_are_assigned() {
    let Some(golden) = Golden::open("assign_targets") else {
        return;
    };
    let (gt, anchors) = (golden.get("gt").boxes(), golden.get("anchors").boxes());
    let proposals = golden.get("proposals").boxes();
    let (rpn, roi) = (RpnConfig::default(), RoiConfig::default());
    let of_anchors = MatchThresholds {
        fg_iou: rpn.fg_iou,
        bg_iou: rpn.bg_iou,
        allow_low_quality: true,
    };
    let of_rois = MatchThresholds {
        fg_iou: roi.fg_iou,
        bg_iou: roi.bg_iou,
        allow_low_quality: false,
    };
    let (truth_labels, labels) = (
        golden.get("gt_labels").indices(),
        golden.get("roi_labels").indices(),
    );
    let matched = golden.get("roi_matched").indices();
    for (_, device) in mrcnn_tests::devices() {
        let matches = |boxes: &[Bbox], valid: usize, thresholds: &MatchThresholds| -> Vec<i32> {
            let boxes = TensorData::new(boxes.as_flattened().to_vec(), [1, boxes.len(), 4]);
            let gt = TensorData::new(gt.as_flattened().to_vec(), [1, gt.len(), 4]);
            let [boxes, gt] = [boxes, gt].map(|data| Tensor::<3>::from_data(data, &device));
            let counts = Tensor::<1, Int>::from_data([valid as i32], &device);
            let found = match_boxes(boxes, gt, counts, thresholds).into_data();
            found.iter::<i32>().collect()
        };
        // torchvision's labels: 1 object, 0 background, -1 between the thresholds.
        let label = |found: &i32| match *found {
            BACKGROUND => 0.0,
            IGNORED => -1.0,
            _ => 1.0,
        };
        let labels_of = |found: &[i32]| found.iter().map(label).collect::<Vec<f64>>();
        let found = matches(&anchors, gt.len(), &of_anchors);
        assert_eq!(labels_of(&found), golden.get("rpn_labels").values);
        for (found, wanted) in found.iter().zip(&golden.get("rpn_matched_gt").boxes()) {
            if *found >= 0 {
                assert_eq!(gt[*found as usize], *wanted);
            }
        }
        let found = matches(&anchors, 0, &of_anchors);
        assert_eq!(labels_of(&found), golden.get("rpn_labels_empty").values);

        let found = matches(&proposals, gt.len(), &of_rois);
        for (index, &found) in found.iter().enumerate() {
            match usize::try_from(found) {
                Ok(object) => assert_eq!(
                    (truth_labels[object], object),
                    (labels[index], matched[index])
                ),
                Err(_) => assert_eq!(labels[index], 0, "proposal {index}"),
            }
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

/// Division by `count` samples.
fn divisor(count: usize, device: &Device) -> Divisor {
    Divisor {
        counts: Tensor::from_floats([count as f32], &device.clone().inner()),
        count: Count {
            index: 0,
            min: 1.0,
            factor: 1.0,
        },
    }
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
        let (class, boxes) = box_losses(
            logits.clone(),
            deltas.clone(),
            &samples,
            divisor(count, &device),
        );
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

/// The mask targets of an image's RoIs, `side x side` each.
fn projected_masks(golden: &Golden, image: usize, side: usize, device: &Device) -> Vec<f32> {
    let masks = golden.get(&format!("gt_masks{image}"));
    let (height, width) = (masks.shape[1], masks.shape[2]);
    let bytes: Vec<u8> = masks.values.iter().map(|&v| v as u8).collect();
    let masks = bytes.chunks(height * width).map(|mask| {
        let rle = Rle::from_row_major_raster_bytes(mask, height as u32, width as u32);
        InstanceMask::new(&rle.expect("a mask"), (height, width), false)
    });
    let masks: Vec<InstanceMask> = masks.collect();
    let table = bit_masks(std::iter::once(masks.as_slice()), masks.len());
    let rois = golden.get(&format!("proposals{image}")).boxes();
    let matched = golden.get(&format!("matched{image}")).indices();
    let matched: Vec<i32> = matched.into_iter().map(|object| object as i32).collect();
    let count = rois.len();
    let rois = TensorData::new(rois.into_flattened(), [1, count, 4]);
    let targets = mask_targets(
        Tensor::from_data(rois, device),
        Tensor::from_data(TensorData::new(matched, [1, count]), device),
        table.upload(1, device),
        side,
    );
    targets.into_data().iter::<f32>().collect()
}

#[test]
fn mask_targets_loss_and_gradient() {
    let Some(golden) = Golden::open("losses") else {
        return;
    };
    let side = golden.get("mask_targets").shape[1];
    for (_, device) in mrcnn_tests::devices() {
        let found: Vec<f32> = [0, 1]
            .iter()
            .flat_map(|image| projected_masks(&golden, *image, side, &device))
            .collect();
        let wanted = golden.get("mask_targets").f32();
        assert_close("mask targets", &found, &wanted, 1e-5);
    }
    let of_image = |image: usize| {
        let labels = golden.get(&format!("gt_labels{image}")).indices();
        let matched = golden.get(&format!("matched{image}")).indices();
        matched.into_iter().map(move |object| labels[object])
    };
    let labels: Vec<usize> = [0, 1].into_iter().flat_map(of_image).collect();
    let targets = golden.get("mask_targets").f32();
    for (_, device) in mrcnn_tests::devices() {
        let device = device.autodiff();
        let stored = golden.get("mask_logits");
        let data = TensorData::new(stored.f32(), stored.shape.clone());
        let logits = Tensor::<4>::from_data(data, &device).require_grad();
        let count = labels.len();
        let data = TensorData::new(targets.clone(), [count, side * side]);
        let [m, classes, ..] = logits.dims();
        let loss = mask_loss(
            logits.clone().reshape([m, classes, side * side]),
            Tensor::from_data(data, &device),
            (indices(&labels, &device), Tensor::ones([count], &device)),
            divisor(count, &device),
        );
        close("loss_mask", loss.clone(), &golden);
        close(
            "grad_mask",
            logits.grad(&loss.backward()).expect("gradient"),
            &golden,
        );
    }
}
