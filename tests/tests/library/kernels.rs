//! The operators of `mrcnn-kernels` on each golden case; RoIAlign on every device.

use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::{
    ConvParams, PyramidLevel, RoiAlignParams, batched_nms, conv2d, expand_box, nms, pack_pyramid,
    paste_mask, roi_align,
};
use mrcnn_tests::close::{assert_close, magnitude};
use mrcnn_tests::golden::{Case, Golden, Stored};

/// Sums of up to a few thousand f32 products in another order than torch's.
const ROUNDING: f64 = 1e-5;

fn tensor4(stored: &Stored, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(stored.f32(), stored.shape.clone()), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// `[image, x1, y1, x2, y2]` -> our rows `[image, level, x1, y1, x2, y2]`.
fn rois_on(rows: &[f32], level: impl Fn(usize) -> usize, device: &Device) -> Tensor<2> {
    let rows = rows.as_chunks::<5>().0.iter().enumerate();
    let values: Vec<f32> = rows
        .flat_map(|(i, &[image, x1, y1, x2, y2])| [image, level(i) as f32, x1, y1, x2, y2])
        .collect();
    let count = values.len() / 6;
    Tensor::from_data(TensorData::new(values, [count, 6]), device)
}

fn roi_align_case(case: &Case<'_>, device: &Device) {
    let device = device.clone().autodiff();
    let feature = tensor4(case.get("feat"), &device).require_grad();
    let [n, c, h, w] = feature.dims();
    let pooled = |i: usize| case.json["pooled"][i].as_u64().expect("pooled size") as usize;
    let (cells, levels) = pack_pyramid(
        std::slice::from_ref(&feature),
        &[case.number("spatial_scale") as f32],
    );
    let params = RoiAlignParams {
        output: [pooled(0), pooled(1)],
        sampling_ratio: case.number("sampling_ratio") as usize,
        aligned: case.flag("aligned"),
        zero_padding: false,
        levels,
    };
    let rows = case.get("rois").f32();
    if rows.is_empty() {
        // Burn has no tensors without elements; the model never requests them.
        assert!(case.get("out").values.is_empty());
        return;
    }
    let out = roi_align(cells, rois_on(&rows, |_| 0, &device), &params);
    let wanted = case.get("out").f32();
    let name = format!("{} forward on {device:?}", case.name());
    assert_close(
        &name,
        &floats(out.clone()),
        &wanted,
        ROUNDING * magnitude(&wanted).max(1.0),
    );

    let grad_out = tensor4(case.get("grad_out"), &device.clone().without_autodiff());
    let gradients = (out * Tensor::from_inner(grad_out)).sum().backward();
    let gradient = feature
        .grad(&gradients)
        .expect("the feature has a gradient");
    assert_eq!(gradient.dims(), [n, c, h, w]);
    let wanted = case.get("grad_feat").f32();
    let name = format!("{} backward on {device:?}", case.name());
    assert_close(
        &name,
        &floats(gradient),
        &wanted,
        ROUNDING * magnitude(&wanted).max(1.0),
    );
}

#[test]
fn roi_align_forward_and_backward() {
    let Some(golden) = Golden::open("roi_align") else {
        return;
    };
    for (_, device) in mrcnn_tests::devices() {
        golden
            .cases()
            .iter()
            .for_each(|case| roi_align_case(case, &device));
    }
}

#[test]
fn roi_align_over_a_pyramid() {
    let Some(golden) = Golden::open("multiscale_roi_align") else {
        return;
    };
    let scales = golden.get("scales").f32();
    let levels = golden.get("levels").indices();
    let boxes = [golden.get("boxes0").boxes(), golden.get("boxes1").boxes()];
    let rows: Vec<f32> = boxes
        .iter()
        .enumerate()
        .flat_map(|(image, boxes)| boxes.iter().map(move |b| (image as f32, b)))
        .flat_map(|(image, &[x1, y1, x2, y2])| [image, x1, y1, x2, y2])
        .collect();
    for (_, device) in mrcnn_tests::devices() {
        let features: Vec<Tensor<4>> = (0..4)
            .map(|level| tensor4(golden.get(&format!("feat{level}")), &device))
            .collect();
        let (cells, table) = pack_pyramid(&features, &scales);
        let rois = rois_on(&rows, |roi| levels[roi], &device);
        for bins in [7, 14] {
            let levels: Vec<PyramidLevel> = table.clone();
            let params = RoiAlignParams {
                output: [bins; 2],
                sampling_ratio: 2,
                aligned: false,
                zero_padding: false,
                levels,
            };
            let found = floats(roi_align(cells.clone(), rois.clone(), &params));
            let wanted = golden.get(&format!("out{bins}")).f32();
            assert_close(
                &format!("{bins} bins on {device:?}"),
                &found,
                &wanted,
                // A GPU that fuses products and sums rounds a position once less, which moves the value it samples.
                ROUNDING * magnitude(&wanted).max(1.0),
            );
        }
    }
}

#[test]
fn nms_keeps_what_torchvision_keeps() {
    let Some(golden) = Golden::open("nms") else {
        return;
    };
    for case in golden.cases() {
        let boxes = case.get("boxes").boxes();
        let scores = case.get("scores").f32();
        let threshold = case.number("iou_threshold");
        let found = if case.flag("batched") {
            batched_nms(&boxes, &scores, &case.get("idxs").indices(), threshold)
        } else {
            nms(&boxes, &scores, threshold)
        };
        let wanted = case.get("keep").indices();
        let note = case.json["note"].as_str().unwrap_or_default();
        if note.contains("compare as sets per score") {
            // torch's last sort is not stable: boxes of equal score come in any order.
            assert_eq!(
                per_score(&found, &scores),
                per_score(&wanted, &scores),
                "{}",
                case.name()
            );
        } else {
            assert_eq!(found, wanted, "{}: {note}", case.name());
        }
    }
}

/// The kept boxes, with those of equal score in ascending order.
fn per_score(kept: &[usize], scores: &[f32]) -> Vec<usize> {
    let mut kept = kept.to_vec();
    kept.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    kept
}

#[test]
fn masks_are_pasted_as_torchvision_does() {
    let Some(golden) = Golden::open("paste_masks") else {
        return;
    };
    for case in golden.cases() {
        let (height, width) = (case.number("h") as usize, case.number("w") as usize);
        let size = case.number("mask_size") as usize;
        let boxes = case.get("boxes").boxes();
        if let Some(expanded) = case.find("expanded") {
            let scale = (size + 2) as f32 / size as f32;
            let found: Vec<f32> = boxes.iter().flat_map(|b| expand_box(*b, scale)).collect();
            // Equal operations in equal order: the last bit of a few hundred pixels differs.
            assert_close(case.name(), &found, &expanded.f32(), 1e-4);
        }
        let masks = case.get("masks").f32();
        let wanted = case.get("out").f32();
        for (index, bbox) in boxes.iter().enumerate() {
            let mask = &masks[index * size * size..][..size * size];
            let pasted = paste_mask(mask, size, *bbox, width, height);
            let mut full = vec![0.0; height * width];
            for row in 0..pasted.height {
                let target = &mut full[(pasted.y + row) * width + pasted.x..][..pasted.width];
                target.copy_from_slice(&pasted.probabilities[row * pasted.width..][..pasted.width]);
            }
            let wanted = &wanted[index * height * width..][..height * width];
            // Bilinear weights of coordinates up to 100: 24 bits less 7.
            assert_close(
                &format!("{} mask {index}", case.name()),
                &full,
                wanted,
                1e-5,
            );
        }
    }
}

/// The RPN's 1x1 convolutions over the levels of a pyramid, whose gradients are slices of one tensor.
#[test]
fn one_by_one_convolutions_have_their_gradients() {
    // Whole numbers: sums are exact in any order.
    let whole = |count: usize, salt: usize| -> Vec<f32> {
        let draw = |i: usize| (((i + salt) as u32).wrapping_mul(2_654_435_761) >> 29) as f32;
        (0..count).map(|i| draw(i) - 4.0).collect()
    };
    let (n, inputs, outputs) = (2, 16, 3);
    let levels = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)];
    let total: usize = levels.iter().map(|(h, w)| h * w * outputs).sum();
    let grad = whole(n * total, 7);
    let maps: Vec<Vec<f32>> = levels
        .iter()
        .map(|(h, w)| whole(n * inputs * h * w, h + w))
        .collect();
    let mut wanted = vec![0.0f32; outputs * inputs];
    let mut first = 0;
    for ((h, w), map) in levels.iter().zip(&maps) {
        for (image, cell) in (0..n).flat_map(|image| (0..h * w).map(move |cell| (image, cell))) {
            for (weight, sum) in wanted.iter_mut().enumerate() {
                let (o, i) = (weight / inputs, weight % inputs);
                let g = grad[image * total + first + cell * outputs + o];
                *sum += g * map[(image * inputs + i) * h * w + cell];
            }
        }
        first += h * w * outputs;
    }
    for (kind, device) in mrcnn_tests::devices() {
        let device = device.autodiff();
        let weight = TensorData::new(whole(outputs * inputs, 3), [outputs, inputs, 1, 1]);
        let weight = Tensor::<4>::from_data(weight, &device).require_grad();
        let scores = levels.iter().zip(&maps).map(|(&(h, w), map)| {
            let x = TensorData::new(map.clone(), [n, inputs, h, w]);
            // Channels-last, like the output of every convolution.
            let x = Tensor::<4>::from_data(x, &device).permute([0, 2, 3, 1]);
            let x = x.reshape([n, h, w, inputs]).permute([0, 3, 1, 2]);
            let params = ConvParams {
                weight: weight.clone(),
                scale: None,
                bias: None,
                stride: 1,
            };
            let out = conv2d(x, params, None, false);
            out.permute([0, 2, 3, 1]).reshape([n, h * w * outputs])
        });
        let scores = Tensor::cat(scores.collect(), 1);
        let grad = TensorData::new(grad.clone(), [n, total]);
        let gradients = (scores * Tensor::from_data(grad, &device)).sum().backward();
        let found = weight.grad(&gradients).expect("a gradient").into_data();
        let found: Vec<f32> = found.iter().collect();
        assert_eq!(found, wanted, "{kind}");
    }
}
