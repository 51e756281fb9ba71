//! R50-FPN and torchvision's v2 in eval mode on two real photos compared with torchvision, from the file to the
//! detections, and the number of reads from a GPU.

use super::found::{Found, found};
use super::reads::reads_of_tuned;
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_backends::BackendKind;
use mrcnn_core::boxes::resize;
use mrcnn_core::config::{Config, ImageConfig, ModelConfig, NormKind};
use mrcnn_core::image::RgbImage;
use mrcnn_core::image::transform::{Planes, prepare, stack};
use mrcnn_core::model::Rois;
use mrcnn_core::predict::Predictor;
use mrcnn_core::weights::import::numbered;
use mrcnn_core::{Detection, MaskRcnn};
use mrcnn_tests::Devices;
use mrcnn_tests::close::{assert_close, max_abs_error};
use mrcnn_tests::golden::{Golden, photo};
use mrcnn_tests::recipe;

/// Tolerances of pixels, scores, mask logits.
struct Tolerance {
    boxes: f64,
    scores: f64,
    logits: f64,
}

/// torch's own f32 differs from f64 by 1.5e-3 px and 9e-6; sums in another order may differ as much again,
/// and a GPU uses other instructions.
fn tolerance(kind: BackendKind) -> Tolerance {
    match kind {
        BackendKind::Cpu => Tolerance {
            boxes: 0.05,
            scores: 1e-4,
            logits: 1e-3,
        },
        _ => Tolerance {
            boxes: 0.5,
            scores: 1e-3,
            logits: 1e-2,
        },
    }
}

#[test]
fn photos_give_torchvisions_detections() {
    let config = recipe::r50_config(0.0);
    photos_give_detections("model_eval", config, mrcnn_tests::devices);
}

/// The file of golden values has the epsilon of the first model, but torchvision's v2 has that of `BatchNorm2d`, 1e-5.
#[test]
fn photos_give_torchvisions_detections_of_v2() {
    let config = recipe::r50_v2_config(NormKind::FrozenBn);
    photos_give_detections(
        "model_eval_v2",
        config,
        mrcnn_tests::devices_for_large_networks,
    );
}

fn photos_give_detections(name: &str, model: ModelConfig, devices: fn() -> Devices) {
    let Some(golden) = Golden::open(name) else {
        return;
    };
    let json = &golden.json["config"];
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("no {key}"));
    let config = Config {
        model,
        image: ImageConfig {
            min_size: number("min_size") as u32,
            max_size: number("max_size") as u32,
            ..ImageConfig::default()
        },
        ..Config::default()
    };
    let images = golden.json["images"].as_array().expect("images").iter();
    // An image that is missing is black, so that the others have the same padding; its values are not compared.
    let mut missing = Vec::new();
    let photos: Vec<_> = images
        .enumerate()
        .map(|(index, entry)| {
            let side = |key: &str| entry[key].as_u64().expect("a side") as u32;
            photo(entry).unwrap_or_else(|| {
                missing.push(index);
                RgbImage::new(side("w"), side("h"))
            })
        })
        .collect();
    let is_present = |index: &usize| !missing.contains(index);
    let planes: Vec<Planes> = photos.iter().map(|p| prepare(p, &config.image)).collect();
    for (kind, device) in devices() {
        let model = recipe::model(&config.model, number("seed") as u64, &device);
        let builder = Predictor::builder().model(model.clone(), numbered(90));
        let predictor = builder.config(config.clone()).build().expect("a predictor");
        let found = found(&predictor, &planes);

        for (index, found) in found
            .iter()
            .enumerate()
            .filter(|(index, _)| is_present(index))
        {
            let (photo, planes) = (&photos[index], &planes[index]);
            let sizes = [
                (planes.height as u32, planes.width as u32),
                (photo.height(), photo.width()),
            ];
            compare(&golden, kind, index, found, sizes);
            probabilities(&golden, kind, index, found);
        }
        let sizes = sizes(&planes, &photos);
        // On a software adapter a third pass takes minutes, so only the probabilities are compared there.
        if kind == BackendKind::Cpu {
            logits(
                &golden,
                &model,
                &planes,
                &config,
                &found,
                &is_present,
                &device,
            );
            let found = found.into_iter().zip(sizes).enumerate();
            for (index, (found, size)) in found.filter(|(index, _)| is_present(index)) {
                let found = found.into_iter().map(|f| f.into_detection(size.0, size.1));
                areas(&golden, kind, index, &found.collect::<Vec<_>>());
            }
        } else {
            let found = detect_without_reads(&predictor, &planes, &sizes, &device, kind);
            for (index, found) in found
                .iter()
                .enumerate()
                .filter(|(index, _)| is_present(index))
            {
                areas(&golden, kind, index, found);
            }
        }
    }
}

/// Heights and widths of the prepared and of the original images.
fn sizes(planes: &[Planes], photos: &[RgbImage]) -> Vec<((u32, u32), (u32, u32))> {
    let pairs = planes.iter().zip(photos);
    let sizes = pairs.map(|(planes, photo)| {
        let prepared = (planes.height as u32, planes.width as u32);
        (prepared, (photo.height(), photo.width()))
    });
    sizes.collect()
}

/// Detections of a pass with tuned kernels, counting reads: none between the
/// upload of the images and the boxes, one for the boxes, one per chunk for the bits of the masks.
fn detect_without_reads(
    predictor: &Predictor,
    planes: &[Planes],
    sizes: &[mrcnn_core::predict::ImageSizes],
    device: &Device,
    kind: BackendKind,
) -> Vec<Vec<Detection>> {
    let model = predictor.model();
    let find_boxes = || {
        let (images, sizes) = predictor.input(planes);
        let features = model.features(images);
        let boxes = pollster::block_on(async {
            let proposals = model.propose(&features, &sizes).await?;
            model.detect_boxes(&features, proposals, &sizes).await
        });
        (features, boxes.expect("boxes"))
    };
    let ((features, boxes), reads) = reads_of_tuned(device, find_boxes);
    assert_eq!(reads, 1, "{kind}: reads up to the boxes, theirs among them");
    let chunks = boxes.iter().map(Vec::len).sum::<usize>().div_ceil(128);
    let find_masks = || {
        let found = model.detect_masks(&features, boxes.clone());
        pollster::block_on(predictor.paste(found, sizes)).expect("detections")
    };
    let (found, reads) = reads_of_tuned(device, find_masks);
    assert_eq!(reads, chunks, "{kind}: reads of the masks");
    found
}

/// The pixels of the pasted masks.
fn areas(golden: &Golden, kind: BackendKind, index: usize, found: &[Detection]) {
    let wanted = golden.get(&format!("det{index}.mask_area_ge_half"));
    assert_eq!(found.len(), wanted.values.len());
    let mut worst = 0.0;
    for (place, (found, &wanted)) in found.iter().zip(&wanted.values).enumerate() {
        let area = found.mask.counts.iter().skip(1).step_by(2).sum::<u32>();
        let area = f64::from(area);
        // A corner close to an integer may be truncated to either side of it, which makes the box a column
        // or a row larger. A few pixels on the mask's outline are at the threshold.
        let [x1, y1, x2, y2] = found.bbox.map(f64::from);
        let allowed = (x2 - x1) + (y2 - y1) + 2.0;
        let off = (area - wanted).abs();
        worst = f64::max(worst, off / allowed);
        assert!(
            off <= allowed,
            "{kind} photo {index}: mask {place} has {area} pixels, not {wanted}"
        );
    }
    println!("{kind} photo {index}: mask areas {worst:.2} of what is allowed");
}

/// The masks of the best detections of a photo, as probabilities.
fn probabilities(golden: &Golden, kind: BackendKind, index: usize, found: &[Found]) {
    let wanted = golden.get(&format!("det{index}.mask_logits_top20"));
    let best = &found[..wanted.shape[0]];
    let values: Vec<f32> = best.iter().flat_map(|f| f.mask.iter().copied()).collect();
    let sigmoid = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    let wanted: Vec<f32> = wanted.f32().into_iter().map(sigmoid).collect();
    // An error of a logit changes its probability by at most a quarter of it.
    let what = format!("{kind} photo {index}: mask probabilities");
    report(&what, &values, &wanted, tolerance(kind).logits / 4.0);
}

/// The mask logits of the best detections of both photos.
fn logits(
    golden: &Golden,
    model: &MaskRcnn,
    planes: &[Planes],
    config: &Config,
    found: &[Vec<Found>],
    is_present: &dyn Fn(&usize) -> bool,
    device: &Device,
) {
    let references: Vec<&Planes> = planes.iter().collect();
    let (values, shape) = stack(&references, config.image.size_divisor);
    let input = Tensor::from_data(TensorData::new(values, shape), device);
    let packed = model.features(input).packed;
    for (index, found) in found
        .iter()
        .enumerate()
        .filter(|(index, _)| is_present(index))
    {
        let wanted = golden.get(&format!("det{index}.mask_logits_top20"));
        let best = &found[..wanted.shape[0]];
        let rois: Vec<_> = best.iter().map(|f| (index, f.scored.bbox)).collect();
        let logits = model.mask_head(&packed, &Rois::new(&rois, device));
        let [_, classes, side, _] = logits.dims();
        let cells = side * side;
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let of_label: Vec<f32> = best
            .iter()
            .zip(logits.chunks(classes * cells))
            .flat_map(|(f, all)| &all[f.scored.label * cells..][..cells])
            .copied()
            .collect();
        let what = format!("photo {index}: mask logits");
        let allowed = tolerance(BackendKind::Cpu).logits;
        report(&what, &of_label, &wanted.f32(), allowed);
    }
}

/// Labels in order, boxes in the pixels of the photo, scores.
fn compare(
    golden: &Golden,
    kind: BackendKind,
    index: usize,
    found: &[Found],
    [resized, original]: [(u32, u32); 2],
) {
    let stored = |key: &str| golden.get(&format!("det{index}.{key}"));
    let labels: Vec<usize> = found.iter().map(|f| f.scored.label).collect();
    assert_eq!(labels, stored("labels").indices(), "{kind} photo {index}");
    let boxes: Vec<f32> = found
        .iter()
        .flat_map(|f| resize(&f.scored.bbox, resized, original))
        .collect();
    let scores: Vec<f32> = found.iter().map(|f| f.scored.score).collect();
    let allowed = tolerance(kind);
    let what = |part: &str| format!("{kind} photo {index}: {part}");
    report(
        &what("boxes"),
        &boxes,
        &stored("boxes").f32(),
        allowed.boxes,
    );
    report(
        &what("scores"),
        &scores,
        &stored("scores").f32(),
        allowed.scores,
    );
}

#[track_caller]
fn report(what: &str, found: &[f32], wanted: &[f32], allowed: f64) {
    let error = max_abs_error(found, wanted).0;
    println!("{what}: error {error:.1e}, allowed {allowed:.1e}");
    assert_close(what, found, wanted, allowed);
}
