//! The detection operators on the processor at the sizes of a COCO picture (800x1344, R50-FPN).
//!
//! `cargo bench -p mrcnn-benches`. RoIAlign is printed as bytes of its output a second: the least that
//! must be written.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mrcnn_core::random::Stream;
use mrcnn_kernels::roi_align::cpu;
use mrcnn_kernels::{PyramidLevel, RoiAlignParams, batched_nms, paste_mask, top_k};
use std::hint::black_box;

/// P2 to P5 of an 800x1344 picture.
fn levels() -> Vec<PyramidLevel> {
    let mut offset = 0;
    [4usize, 8, 16, 32]
        .into_iter()
        .map(|stride| {
            let (height, width) = (800 / stride, 1344 / stride);
            let level = PyramidLevel {
                height,
                width,
                offset,
                scale: 1.0 / stride as f32,
            };
            offset += height * width;
            level
        })
        .collect()
}

fn boxes(count: usize) -> Vec<[f32; 4]> {
    let stream = Stream::named("boxes", 0);
    (0..count as u64)
        .map(|i| {
            let u = |k: u64| stream.uniform(4 * i + k) as f32;
            let (x, y) = (u(0) * 1200.0, u(1) * 700.0);
            let (w, h) = (8.0 * (40.0f32).powf(u(2)), 8.0 * (40.0f32).powf(u(3)));
            [x, y, (x + w).min(1344.0), (y + h).min(800.0)]
        })
        .collect()
}

fn roi_align(c: &mut Criterion) {
    let channels = 256;
    let levels = levels();
    let cells: usize = levels.iter().map(|l| l.height * l.width).sum();
    let stream = Stream::named("features", 0);
    let pyramid: Vec<f32> = (0..(cells * channels) as u64)
        .map(|i| stream.uniform(i) as f32)
        .collect();
    let mut group = c.benchmark_group("roi_align");
    group.sample_size(10);
    for (count, bins) in [(1000, 7), (100, 14)] {
        let rois: Vec<f32> = boxes(count)
            .iter()
            .flat_map(|&[x1, y1, x2, y2]| {
                let level = mrcnn_core::boxes::pyramid_level(&[x1, y1, x2, y2], 2, 5);
                [0.0, level as f32, x1, y1, x2, y2]
            })
            .collect();
        let params = RoiAlignParams {
            output: [bins; 2],
            sampling_ratio: 2,
            aligned: false,
            levels: levels.clone(),
        };
        // Bytes: the output once, four samples of four cells in cache.
        let outputs = count * bins * bins * channels;
        group.throughput(Throughput::Bytes(4 * outputs as u64));
        let shape = [1, cells, channels];
        let name = format!("{count}x{bins}x{bins}");
        group.bench_function(BenchmarkId::new("forward", &name), |b| {
            b.iter(|| cpu::forward(black_box(&pyramid), shape, black_box(&rois), &params));
        });
        let gradient = vec![1.0f32; outputs];
        group.bench_function(BenchmarkId::new("backward", &name), |b| {
            b.iter(|| cpu::backward(black_box(&gradient), channels, &rois, &params, 1));
        });
    }
    group.finish();
}

fn selection(c: &mut Criterion) {
    let mut group = c.benchmark_group("selection");
    let stream = Stream::named("scores", 0);
    let scores: Vec<f32> = (0..200_000).map(|i| stream.uniform(i) as f32).collect();
    group.bench_function("top_k 1000 of 200000", |b| {
        b.iter(|| top_k(black_box(&scores), 1000));
    });
    for count in [1000, 5000] {
        let boxes = boxes(count);
        let levels: Vec<usize> = (0..count).map(|i| i * 5 / count).collect();
        group.bench_function(BenchmarkId::new("batched_nms", count), |b| {
            b.iter(|| batched_nms(black_box(&boxes), &scores[..count], &levels, 0.7));
        });
    }
    let mask = vec![0.7f32; 28 * 28];
    group.bench_function("paste_mask 28x28 to 400x300", |b| {
        b.iter(|| {
            paste_mask(
                black_box(&mask),
                28,
                [100.0, 100.0, 500.0, 400.0],
                1344,
                800,
            )
        });
    });
    group.finish();
}

criterion_group!(benches, roi_align, selection);
criterion_main!(benches);
