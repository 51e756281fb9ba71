//! Decoding, matching, sampling, mask targets and pasting on the wgpu adapter at the sizes of a COCO image (800x1344,
//! R50-FPN): kernels that keep everything on the device, compared with a read, the CPU version and an upload.
//!
//! `cargo bench --workspace --bench gpu_targets`. The minimum of bytes to move (inputs once, outputs
//! once) and of operations is printed with the times.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mrcnn_benches::time;
use mrcnn_core::boxes::{AnchorLayout, Anchors};
use mrcnn_core::config::RpnConfig;
use mrcnn_core::image::paste::paste_to_rle;
use mrcnn_core::model::mask_probabilities;
use mrcnn_core::random::Stream;
use mrcnn_kernels::{
    BACKGROUND, BitMasks, BoxDecoding, MaskWindow, MatchThresholds, decode_box, decode_boxes, iou,
    mask_target, mask_targets, match_boxes, match_by, paste_mask, sampling_key, sampling_scores,
};
use std::hint::black_box;

const DECODING: BoxDecoding = BoxDecoding {
    weights: [1.0; 4],
    max_log_scale: 4.135_166_6,
    min_size: 1e-3,
};
const THRESHOLDS: MatchThresholds = MatchThresholds {
    fg_iou: 0.7,
    bg_iou: 0.3,
    allow_low_quality: true,
};
const CLASSES: usize = 91;

/// Height and width of the image.
const SIZE: (usize, usize) = (800, 1344);

/// P2 to P6 of the image.
fn anchors() -> Vec<[f32; 4]> {
    let config = RpnConfig::default();
    let grids = [4, 8, 16, 32, 64].map(|stride: usize| (SIZE.0.div_ceil(stride), SIZE.1 / stride));
    Anchors::new(
        SIZE,
        &grids,
        &config.anchor_sizes,
        &config.anchor_ratios,
        AnchorLayout::default(),
    )
    .boxes
}

fn noise(name: &str, count: usize, scale: f32) -> Vec<f32> {
    let stream = Stream::named(name, 0);
    (0..count as u64)
        .map(|i| stream.normal(i) as f32 * scale)
        .collect()
}

fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data().iter::<f32>().collect()
}

struct Bench<'a> {
    criterion: &'a mut Criterion,
    device: &'a Device,
}

impl Bench<'_> {
    /// Times the two sides one after the other.
    fn compare<A, B>(
        &mut self,
        name: &str,
        bytes: usize,
        operations: usize,
        on_host: impl Fn() -> A,
        kernels: impl Fn() -> B,
    ) {
        println!("{name}: least to move {bytes} bytes, to compute {operations} operations");
        let mut group = self.criterion.benchmark_group(name);
        group
            .sample_size(20)
            .throughput(Throughput::Bytes(bytes as u64));
        let finish = || self.device.sync().expect("the device is alive");
        group.bench_function("before: on the host", |b| {
            b.iter_custom(|times| {
                time(times, || {
                    black_box(on_host());
                    finish();
                })
            });
        });
        group.bench_function("kernels", |b| {
            b.iter_custom(|times| {
                time(times, || {
                    black_box(kernels());
                    finish();
                })
            });
        });
        group.finish();
    }
}

/// The 1000 best of each level.
fn decoding(bench: &mut Bench<'_>, anchors: &[[f32; 4]]) {
    let (device, total, slots) = (bench.device, anchors.len(), 5000);
    let deltas = upload(noise("deltas", total * 4, 0.3), [1, total, 4], device);
    let boxes = upload(anchors.as_flattened().to_vec(), [1, total, 4], device);
    let chosen: Vec<i32> = (0..slots).map(|i| (i * 53 % total) as i32).collect();
    let indices = Tensor::<2, Int>::from_data(TensorData::new(chosen.clone(), [1, slots]), device);
    let scores = upload(vec![0.5; slots], [1, slots], device);
    let sizes = upload(vec![SIZE.0 as f32, SIZE.1 as f32], [1, 2], device);
    bench.compare(
        "decoding of 5 x 1000 boxes",
        slots * (16 + 16 + 8 + 20),
        slots * 40,
        || {
            let deltas = read(&deltas);
            let deltas = deltas.as_chunks::<4>().0;
            let decoded = chosen.iter().flat_map(|&i| {
                let i = i as usize;
                let decoded = decode_box(&deltas[i], &anchors[i], [1.0; 4], DECODING.max_log_scale);
                let [x1, y1, x2, y2] = decoded;
                let x = [x1, x2].map(|x| x.clamp(0.0, SIZE.1 as f32));
                let y = [y1, y2].map(|y| y.clamp(0.0, SIZE.0 as f32));
                [x[0], y[0], x[1], y[1]]
            });
            upload(decoded.collect(), [1, slots, 4], device)
        },
        || {
            decode_boxes(
                deltas.clone(),
                boxes.clone(),
                scores.clone(),
                indices.clone(),
                sizes.clone(),
                &DECODING,
            )
        },
    );
}

/// Matching of all anchors with 20 objects, then sampling scores.
fn matching_and_sampling(bench: &mut Bench<'_>, anchors: &[[f32; 4]]) {
    let (device, total, objects) = (bench.device, anchors.len(), 20);
    let gt = mrcnn_benches::boxes(objects);
    let boxes = upload(anchors.as_flattened().to_vec(), [1, total, 4], device);
    let on_device = upload(gt.as_flattened().to_vec(), [1, objects, 4], device);
    let counts = Tensor::<1, Int>::from_data([objects as i32], device);
    let found = match_by(objects, total, &THRESHOLDS, |t, b| iou(&gt[t], &anchors[b]));
    let matches = Tensor::<2, Int>::from_data(TensorData::new(found.clone(), [1, total]), device);
    bench.compare(
        &format!("matching of {total} anchors to {objects} objects"),
        total * 20,
        // Two passes over the pairs.
        2 * 14 * total * objects,
        || {
            let found = match_by(objects, total, &THRESHOLDS, |t, b| iou(&gt[t], &anchors[b]));
            Tensor::<2, Int>::from_data(TensorData::new(found, [1, total]), device)
        },
        || {
            match_boxes(
                boxes.clone(),
                on_device.clone(),
                counts.clone(),
                &THRESHOLDS,
            )
        },
    );
    bench.compare(
        &format!("sampling scores of {total} anchors"),
        total * 12,
        total * 60,
        || {
            let score = |i: usize| 1.0 - sampling_key(7, i as u64) as f32 / 16_777_216.0;
            let of = |wanted: &dyn Fn(i32) -> bool| -> Vec<f32> {
                let chosen = found.iter().enumerate();
                chosen
                    .map(|(i, &kind)| {
                        if wanted(kind) {
                            score(i)
                        } else {
                            f32::NEG_INFINITY
                        }
                    })
                    .collect()
            };
            let both = [of(&|kind| kind >= 0), of(&|kind| kind == BACKGROUND)];
            upload(both.concat(), [1, 2 * total], device)
        },
        || sampling_scores(matches.clone(), &[7], device),
    );
}

/// The masks of ten objects inside 128 RoIs.
fn targets(bench: &mut Bench<'_>) {
    let (device, count, masks, side) = (bench.device, 128, 10, 28);
    let rois = mrcnn_benches::boxes(count);
    let mut table = BitMasks::default();
    let cells: Vec<u8> = (0..400 * 300).map(|i| u8::from(i % 7 < 4)).collect();
    let window = MaskWindow {
        origin: (200, 100),
        size: (400, 300),
        image: (SIZE.1, SIZE.0),
    };
    (0..masks).for_each(|_| table.push(window, &cells));
    let matched: Vec<i32> = (0..count).map(|i| (i % masks) as i32).collect();
    let matched = Tensor::<2, Int>::from_data(TensorData::new(matched, [1, count]), device);
    let on_device = upload(rois.as_flattened().to_vec(), [1, count, 4], device);
    // Four cells per sample, and one sample per pixel of the RoI.
    let pixels: f32 = rois.iter().map(|b| (b[2] - b[0]) * (b[3] - b[1])).sum();
    bench.compare(
        "mask targets of 128 RoIs",
        masks * 400 * 300 / 8 + count * (side * side * 4 + 20),
        pixels as usize * 12,
        || {
            let targets = rois.iter().flat_map(|roi| {
                mask_target(roi, side, (SIZE.1, SIZE.0), |row, column| {
                    let (y, x) = (row.wrapping_sub(100), column.wrapping_sub(200));
                    if y < 300 && x < 400 {
                        f32::from(cells[y * 400 + x])
                    } else {
                        0.0
                    }
                })
            });
            upload(targets.collect(), [1, count, side * side], device)
        },
        || {
            let table = table.upload(1, device);
            mask_targets(on_device.clone(), matched.clone(), table, side)
        },
    );
}

/// 100 detections, from the logits of the mask head to run lengths.
fn pasting(bench: &mut Bench<'_>) {
    let (device, count, side) = (bench.device, 100, 28);
    let boxes = mrcnn_benches::boxes(count);
    let labels: Vec<usize> = (0..count).map(|i| 1 + i % (CLASSES - 1)).collect();
    let shape = [count, CLASSES, side, side];
    let values = noise("logits", shape.iter().product(), 3.0);
    let logits = upload(values, shape, device);
    let size = (SIZE.0 as u32, SIZE.1 as u32);
    let places: Vec<_> = boxes.iter().map(|&bbox| (bbox, size)).collect();
    let pixels: f32 = boxes.iter().map(|b| (b[2] - b[0]) * (b[3] - b[1])).sum();
    bench.compare(
        "pasting of 100 masks, logits to run lengths",
        count * side * side * 4 + pixels as usize / 8,
        pixels as usize * 12,
        || {
            let logits = read(&logits);
            let cells = side * side;
            let runs = boxes
                .iter()
                .zip(&labels)
                .enumerate()
                .map(|(i, (&bbox, label))| {
                    let mask = &logits[(i * CLASSES + label) * cells..][..cells];
                    let mask: Vec<f32> = mask.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect();
                    let pasted = paste_mask(&mask, side, bbox, SIZE.1, SIZE.0);
                    runs_of_floats(&pasted)
                });
            runs.collect::<Vec<_>>()
        },
        || {
            let masks = mask_probabilities(logits.clone(), &labels);
            // The benchmark waits for the device.
            pollster::block_on(paste_to_rle(masks, &places, 0.5)).expect("the device is alive")
        },
    );
}

/// Run lengths of the window, pixel by pixel, as computed before masks were bits.
fn runs_of_floats(pasted: &mrcnn_kernels::PastedMask) -> Vec<u32> {
    let (mut counts, mut value, mut length) = (Vec::new(), false, 0);
    for column in 0..pasted.width {
        for row in 0..pasted.height {
            let next = pasted.probabilities[row * pasted.width + column] > 0.5;
            if next != value {
                counts.push(std::mem::take(&mut length));
                value = next;
            }
            length += 1;
        }
    }
    counts.push(length);
    counts
}

fn benches(criterion: &mut Criterion) {
    match mrcnn_benches::gpu() {
        Ok(selected) => {
            println!("adapter: {}", selected.name);
            let anchors = anchors();
            let mut bench = Bench {
                criterion,
                device: &selected.device,
            };
            decoding(&mut bench, &anchors);
            matching_and_sampling(&mut bench, &anchors);
            targets(&mut bench);
            pasting(&mut bench);
        }
        Err(error) => println!("SKIPPED: {error}"),
    }
}

criterion_group!(all, benches);
criterion_main!(all);
