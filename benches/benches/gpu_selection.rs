//! Selection on the wgpu adapter at the sizes of a COCO image (800x1344, R50-FPN): kernels that keep everything on the device,
//! compared with a read, the CPU version and an upload.
//!
//! `cargo bench --workspace --bench gpu_selection`. The throughput is the minimum of bytes to move per second: inputs read once,
//! outputs written once.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mrcnn_benches::time;
use mrcnn_core::boxes::{AnchorLayout, Anchors};
use mrcnn_core::config::RpnConfig;
use mrcnn_core::model::{AnchorSlots, filter_proposals, image_sizes};
use mrcnn_core::random::Stream;
use mrcnn_kernels::{batched_nms, nms_sorted, top_k, top_k_segments};
use std::hint::black_box;
use std::ops::Range;

const LEVELS: usize = 5;
const K: usize = 1000;
const IOU: f64 = 0.7;

/// The anchors of P2 to P6.
fn anchors(config: &RpnConfig) -> Anchors {
    let (sizes, ratios) = (&config.anchor_sizes, &config.anchor_ratios);
    Anchors::new(
        (800, 1344),
        &grids(),
        sizes,
        ratios,
        AnchorLayout::default(),
    )
}

/// Rows and columns of P2 to P6.
fn grids() -> [(usize, usize); 5] {
    [4, 8, 16, 32, 64].map(|stride: usize| (800usize.div_ceil(stride), 1344 / stride))
}

fn segments(anchors: &Anchors) -> Vec<Range<usize>> {
    let mut end = 0;
    let level = |&count: &usize| {
        end += count;
        end - count..end
    };
    anchors.per_level.iter().map(level).collect()
}

fn noise<const D: usize>(name: &str, shape: [usize; D], scale: f32, device: &Device) -> Tensor<D> {
    let stream = Stream::named(name, 0);
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..count)
        .map(|i| stream.normal(i) as f32 * scale)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data().iter::<f32>().collect()
}

fn finish(device: &Device) {
    device.sync().expect("the device is alive");
}

fn top_k_of_levels(c: &mut Criterion, device: &Device) {
    let levels = segments(&anchors(&RpnConfig::default()));
    let total = levels.last().map_or(0, |level| level.end);
    let scores = noise("objectness", [1, total], 2.0, device);
    let mut group = c.benchmark_group(format!("top-k {K} of {LEVELS} levels, {total} anchors"));
    let floor = total * 4 + LEVELS * K * 8;
    println!("least to move: {floor} bytes");
    group
        .sample_size(20)
        .throughput(Throughput::Bytes(floor as u64));
    group.bench_function("read, CPU, upload", |b| {
        b.iter_custom(|times| {
            time(times, || {
                let host = read(&scores);
                let mut best = vec![f32::NEG_INFINITY; LEVELS * K];
                let mut indices = vec![-1i32; LEVELS * K];
                for (i, level) in levels.iter().enumerate() {
                    for (slot, found) in top_k(&host[level.clone()], K).into_iter().enumerate() {
                        best[i * K + slot] = host[level.start + found];
                        indices[i * K + slot] = (level.start + found) as i32;
                    }
                }
                let shape = [1, LEVELS, K];
                let best = Tensor::<3>::from_data(TensorData::new(best, shape), device);
                let indices = Tensor::<3, Int>::from_data(TensorData::new(indices, shape), device);
                finish(device);
                black_box((best, indices));
            })
        });
    });
    group.bench_function("kernels", |b| {
        b.iter_custom(|times| {
            time(times, || {
                let found = top_k_segments(scores.clone(), &levels, K);
                finish(device);
                black_box(found);
            })
        });
    });
    group.finish();
}

fn nms_of_levels(c: &mut Criterion, device: &Device) {
    let stream = Stream::named("boxes", 0);
    let boxes: Vec<[f32; 4]> = (0..(LEVELS * K) as u64)
        .map(|i| {
            let u = |k: u64| stream.uniform(4 * i + k) as f32;
            let (x, y) = (u(0) * 1200.0, u(1) * 700.0);
            let (w, h) = (8.0 * 40f32.powf(u(2)), 8.0 * 40f32.powf(u(3)));
            [x, y, (x + w).min(1344.0), (y + h).min(800.0)]
        })
        .collect();
    let levels: Vec<usize> = (0..LEVELS * K).map(|i| i / K).collect();
    let scores: Vec<f32> = (0..LEVELS * K).map(|i| 1.0 / (1 + i % K) as f32).collect();
    let upload = |values: Vec<f32>| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [LEVELS, K]), device)
    };
    let corners = TensorData::new(boxes.into_flattened(), [LEVELS, K, 4]);
    let corners = Tensor::<3>::from_data(corners, device);
    let sorted = upload(scores);
    let mut group = c.benchmark_group(format!("NMS of {LEVELS}x{K} boxes"));
    let floor = LEVELS * K * (16 + 4 + 4);
    println!("least to move: {floor} bytes");
    group
        .sample_size(20)
        .throughput(Throughput::Bytes(floor as u64));
    group.bench_function("read, CPU, upload", |b| {
        b.iter_custom(|times| {
            time(times, || {
                let (boxes, scores) = (read(&corners), read(&sorted));
                let mut kept = vec![f32::NEG_INFINITY; LEVELS * K];
                for slot in batched_nms(boxes.as_chunks().0, &scores, &levels, IOU) {
                    kept[slot] = scores[slot];
                }
                let kept = upload(kept);
                finish(device);
                black_box(kept);
            })
        });
    });
    group.bench_function("kernels", |b| {
        b.iter_custom(|times| {
            time(times, || {
                let kept = nms_sorted(corners.clone(), sorted.clone(), IOU);
                finish(device);
                black_box(kept);
            })
        });
    });
    group.finish();
}

fn proposals(c: &mut Criterion, device: &Device) {
    let config = RpnConfig::default();
    let anchors = anchors(&config);
    let count = anchors.boxes.len();
    let objectness = noise("objectness", [1, count], 2.0, device);
    let deltas = noise("deltas", [1, count, 4], 0.3, device);
    let mut group = c.benchmark_group("proposals of an image");
    let floor = count * 4 + LEVELS * K * (4 + 16 + 16) + K * 20;
    println!("least to move: {floor} bytes");
    group
        .sample_size(20)
        .throughput(Throughput::Bytes(floor as u64));
    group.bench_function("read, CPU, upload", |b| {
        let cpu = Device::flex();
        let made = AnchorSlots::new((800, 1344), &grids(), &config, &cpu);
        b.iter_custom(|times| {
            time(times, || {
                let kept = filter_proposals(
                    objectness.clone().to_device(&cpu),
                    deltas.clone().to_device(&cpu),
                    &made,
                    image_sizes(&[(800, 1344)], &cpu),
                    &config,
                    [K, K],
                );
                let boxes = kept.boxes.to_device(device);
                finish(device);
                black_box(boxes);
            })
        });
    });
    let made = AnchorSlots::new((800, 1344), &grids(), &config, device);
    group.bench_function("kernels", |b| {
        b.iter_custom(|times| {
            time(times, || {
                let found = filter_proposals(
                    objectness.clone(),
                    deltas.clone(),
                    &made,
                    image_sizes(&[(800, 1344)], device),
                    &config,
                    [K, K],
                );
                finish(device);
                black_box(found);
            })
        });
    });
    group.finish();
}

fn selection(c: &mut Criterion) {
    match mrcnn_benches::gpu() {
        Ok(selected) => {
            println!("adapter: {}", selected.name);
            top_k_of_levels(c, &selected.device);
            nms_of_levels(c, &selected.device);
            proposals(c, &selected.device);
        }
        Err(error) => println!("SKIPPED: {error}"),
    }
}

criterion_group!(benches, selection);
criterion_main!(benches);
