//! The whole R50-FPN models of torchvision, the first and v2, with recipe weights compared with every stored tensor.

use super::slots::valid_slots;
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_backends::BackendKind;
use mrcnn_core::MaskRcnn;
use mrcnn_core::boxes::Bbox;
use mrcnn_core::config::{ImageConfig, ModelConfig, NormKind};
use mrcnn_core::image::transform::{Planes, prepare};
use mrcnn_core::model::{BoxSlots, Rois, ScoredBox, image_sizes, mask_probabilities, postprocess};
use mrcnn_core::random::Stream;
use mrcnn_core::weights::state_dict;
use mrcnn_kernels::paste_mask;
use mrcnn_tests::close::{assert_close, magnitude, max_abs_error};
use mrcnn_tests::golden::{Golden, photo};
use mrcnn_tests::recipe;
use std::collections::BTreeMap;

fn seed(golden: &Golden) -> u64 {
    golden.json["seed"]
        .as_u64()
        .expect("weights_checksum.json names its seed")
}

#[test]
fn recipe_weights_have_torchs_names_and_bits() {
    has_torchs_names_and_bits("weights_checksum", recipe::r50_config(1e-5));
}

#[test]
fn recipe_weights_of_v2_have_torchs_names_and_bits() {
    let config = recipe::r50_v2_config(NormKind::FrozenBn);
    has_torchs_names_and_bits("weights_checksum_v2", config);
}

fn has_torchs_names_and_bits(name: &str, config: ModelConfig) {
    let Some(golden) = Golden::open(name) else {
        return;
    };
    let model = recipe::model(&config, seed(&golden), &Device::flex());
    let found = state_dict(&model);
    let wanted = golden.json["tensors"].as_object().expect("tensors");
    let names: Vec<&String> = found.keys().collect();
    let mut wanted_names: Vec<&String> = wanted.keys().collect();
    wanted_names.sort();
    assert_eq!(names, wanted_names);
    for (name, data) in found {
        let bits: Vec<u32> = data.iter::<f32>().map(f32::to_bits).collect();
        let sum: u64 = bits.iter().map(|&b| b as u64).sum();
        let xor = bits.iter().fold(0, |a, b| a ^ b);
        let entry = &wanted[&name];
        assert_eq!(entry["sum_bits_u64"].as_u64(), Some(sum), "{name}");
        assert_eq!(entry["xor_bits"].as_u64(), Some(xor as u64), "{name}");
        for (index, &bits) in bits.iter().take(4).enumerate() {
            assert_eq!(
                entry["first4_bits"][index].as_u64(),
                Some(bits as u64),
                "{name}"
            );
        }
    }
}

/// Every tensor of a forward pass by its golden name.
fn forward(model: &MaskRcnn, planes: &Planes, device: &Device) -> BTreeMap<String, Vec<f32>> {
    let (height, width) = (planes.height, planes.width);
    let data = TensorData::new(planes.values.clone(), [1, 3, height, width]);
    let images = Tensor::<4>::from_data(data, device);
    let mut found = BTreeMap::from([("input".to_string(), planes.values.clone())]);
    for (level, feature) in (2..).zip(model.body(images.clone())) {
        insert(&mut found, &format!("C{level}"), feature);
    }
    let features = model.features(images);
    let predicted = model.rpn.levels(&features.pyramid);
    for ((level, feature), (logits, deltas)) in (2..).zip(&features.pyramid).zip(predicted) {
        insert(&mut found, &format!("P{level}"), feature.clone());
        insert(&mut found, &format!("rpn_logits_P{level}"), logits);
        insert(&mut found, &format!("rpn_deltas_P{level}"), deltas);
    }
    let sizes = [(height as u32, width as u32)];
    let proposals = pollster::block_on(model.propose(&features, &sizes)).expect("proposals");
    let proposals: Vec<Bbox> = valid_slots(proposals)[0]
        .iter()
        .map(|(bbox, _)| *bbox)
        .collect();
    let rois: Vec<_> = proposals.iter().map(|&bbox| (0, bbox)).collect();
    found.insert("proposals".into(), proposals.into_flattened());
    let (logits, deltas) = model.box_head(&features.packed, &Rois::new(&rois, device));
    insert(&mut found, "cls_logits", logits);
    insert(&mut found, "box_regression", deltas);
    found
}

fn insert<const D: usize>(found: &mut BTreeMap<String, Vec<f32>>, name: &str, tensor: Tensor<D>) {
    found.insert(name.into(), floats(tensor));
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The synthetic image, seeded like the weights.
fn tiny_input(seed: u64, config: &ImageConfig) -> Planes {
    let stream = Stream::named("input.tiny", seed);
    let (height, width) = (64, 96);
    let values: Vec<f32> = (0..3 * height * width)
        .map(|i| {
            let channel = i / (height * width);
            (stream.uniform(i as u64) as f32 - config.mean[channel]) / config.std[channel]
        })
        .collect();
    Planes {
        values,
        height,
        width,
    }
}

/// The golden values of a tensor and the computed ones: golden files keep the first 16 channels of C2
/// and P2, and the deltas of the first 60 RoIs.
fn stored_part(golden: &Golden, name: &str, mut found: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
    if let Some(stored) = golden.find(name) {
        if name == "box_regression" {
            found.truncate(stored.values.len());
        }
        return (found, stored.f32());
    }
    let excerpt = golden.find(&format!("{name}.ch0_15"));
    let wanted = excerpt
        .unwrap_or_else(|| panic!("{name} is not stored"))
        .f32();
    found.truncate(wanted.len());
    (found, wanted)
}

/// f32-against-f64 noise of the stages, measured by torch. The noise stored for the head outputs is
/// that of proposals that changed their order; the noise of the mask logits, which are as deep and as wide, is used
/// instead.
fn noise(eval: &Golden, name: &str) -> f64 {
    let stage = match name {
        "proposals" => {
            return eval.json["f32_vs_f64"][0]["box_maxabs"]
                .as_f64()
                .expect("noise");
        }
        "cls_logits" | "box_regression" => "mask_logits",
        _ => name,
    };
    let entry = &eval.json["tensors"][stage]["f32_vs_f64_maxabs"];
    entry
        .as_f64()
        .unwrap_or_else(|| panic!("no noise for {name}"))
}

#[test]
fn tiny_model_equals_torchvision_stage_by_stage() {
    tiny_model_equals("", recipe::r50_config(1e-5));
}

#[test]
fn tiny_v2_model_equals_torchvision_stage_by_stage() {
    tiny_model_equals("_v2", recipe::r50_v2_config(NormKind::FrozenBn));
}

/// `suffix` is that of the names of the golden files.
fn tiny_model_equals(suffix: &str, config: ModelConfig) {
    let open = |name: &str| Golden::open(&format!("{name}{suffix}"));
    let (Some(golden), Some(eval), Some(weights)) = (
        open("model_tiny_full"),
        open("model_eval"),
        open("weights_checksum"),
    ) else {
        return;
    };
    assert_eq!(golden.json["frozen_bn_eps"].as_f64(), Some(config.norm_eps));
    for (kind, device) in mrcnn_tests::devices() {
        let model = recipe::model(&config, seed(&weights), &device);
        let planes = tiny_input(seed(&weights), &ImageConfig::default());
        for (name, found) in forward(&model, &planes, &device) {
            let (found, wanted) = stored_part(&golden, &name, found);
            let tolerance = match kind {
                BackendKind::Cpu => 10.0 * noise(&eval, &name),
                // Sums of thousands of products in another order and with other instructions.
                _ => 1e-3 * magnitude(&wanted),
            };
            let error = max_abs_error(&found, &wanted).0;
            println!("{kind} {name:>16}: error {error:.2e}, allowed {tolerance:.2e}");
            assert_close(&format!("{kind} {name}"), &found, &wanted, tolerance);
        }
        detections_equal(&golden, &model, &planes, &device, kind);
    }
}

/// The detections and the best eight masks.
fn detections_equal(
    golden: &Golden,
    model: &MaskRcnn,
    planes: &Planes,
    device: &Device,
    kind: BackendKind,
) {
    let (height, width) = (planes.height, planes.width);
    let data = TensorData::new(planes.values.clone(), [1, 3, height, width]);
    let packed = model.features(Tensor::from_data(data, device)).packed;
    let proposals = golden.get("proposals").boxes();
    let count = proposals.len();
    let boxes = TensorData::new(proposals.into_flattened(), [1, count, 4]);
    let proposals = BoxSlots {
        boxes: Tensor::from_data(boxes, device),
        scores: Tensor::ones([1, count], device),
    };
    let rois = Rois::from_slots(proposals.boxes.clone());
    let (logits, deltas) = model.box_head(&packed, &rois);
    let sizes = image_sizes(&[(height as u32, width as u32)], device);
    let found = postprocess(logits, deltas, &proposals, sizes, &model.config().roi);
    let mut found = pollster::block_on(found.read())
        .expect("detections")
        .remove(0);
    // torch's own f32 differs from f64 by 1.5e-3 px and 9e-6; ten times that, and a tenth of a pixel
    // and 1e-3 on a GPU.
    let (box_error, score_error, mask_error) = if kind == BackendKind::Cpu {
        (1.5e-2, 9e-5, 1e-3)
    } else {
        (0.1, 1e-3, 1e-2)
    };
    order_ties(golden, &mut found, box_error, score_error);
    let labels: Vec<usize> = found.iter().map(|d| d.label).collect();
    assert_eq!(labels, golden.get("det_labels").indices(), "{kind}");
    let boxes: Vec<f32> = found.iter().flat_map(|d| d.bbox).collect();
    let scores: Vec<f32> = found.iter().map(|d| d.score).collect();
    assert_close("boxes", &boxes, &golden.get("det_boxes").f32(), box_error);
    assert_close(
        "scores",
        &scores,
        &golden.get("det_scores").f32(),
        score_error,
    );

    let wanted = golden.get("det_masks_top8").f32();
    let best = &found[..wanted.len() / (height * width)];
    let rois: Vec<_> = best.iter().map(|d| (0, d.bbox)).collect();
    let labels: Vec<usize> = best.iter().map(|d| d.label).collect();
    let logits = model.mask_head(&packed, &Rois::new(&rois, device));
    let [_, _, side, _] = logits.dims();
    let masks = floats(mask_probabilities(logits, &labels));
    let masks = masks.chunks(side * side);
    for ((detection, mask), wanted) in best.iter().zip(masks).zip(wanted.chunks(height * width)) {
        let image = pasted(mask, side, detection.bbox, width, height);
        assert_close("mask", &image, wanted, mask_error);
    }
}

/// Puts detections in the golden order whose scores differ by less than both sides' rounding.
fn order_ties(golden: &Golden, found: &mut [ScoredBox], box_error: f64, score_error: f64) {
    let (boxes, labels) = (
        golden.get("det_boxes").boxes(),
        golden.get("det_labels").indices(),
    );
    for (rank, (bbox, label)) in boxes.iter().zip(labels).enumerate() {
        let is_wanted =
            |d: &ScoredBox| d.label == label && max_abs_error(&d.bbox, bbox).0 <= box_error;
        let Some(offset) = found[rank..].iter().position(is_wanted) else {
            continue; // the comparison that follows reports what is missing
        };
        let distance = found[rank].score - found[rank + offset].score;
        if f64::from(distance) <= 2.0 * score_error {
            found[rank..=rank + offset].rotate_right(1);
        }
    }
}

/// A mask over the whole image.
fn pasted(mask: &[f32], side: usize, bbox: [f32; 4], width: usize, height: usize) -> Vec<f32> {
    let pasted = paste_mask(mask, side, bbox, width, height);
    let mut image = vec![0.0; height * width];
    for row in 0..pasted.height {
        let target = &mut image[(pasted.y + row) * width + pasted.x..][..pasted.width];
        target.copy_from_slice(&pasted.probabilities[row * pasted.width..][..pasted.width]);
    }
    image
}

#[test]
fn real_photos_reach_the_model_as_in_torchvision() {
    let Some(golden) = Golden::open("model_eval") else {
        return;
    };
    let config = ImageConfig {
        min_size: 320,
        max_size: 512,
        ..ImageConfig::default()
    };
    let (mut sum, mut count) = (0.0, 0.0);
    for image in golden.json["images"].as_array().expect("images") {
        let Some(image) = photo(image) else {
            return;
        };
        let planes = prepare(&image, &config);
        sum += planes.values.iter().map(|&v| v as f64).sum::<f64>();
        count += 1.0;
    }
    let input = &golden.json["tensors"]["input"];
    let padded = &input["shape"];
    let area = padded[2].as_f64().expect("h") * padded[3].as_f64().expect("w") * 3.0;
    let mean = input["mean"].as_f64().expect("mean");
    assert!(
        (sum / (count * area) - mean).abs() < 1e-5,
        "mean {}",
        sum / (count * area)
    );
}
