//! The detection operators on the CPU at the sizes of a COCO image (800x1344, R50-FPN).
//!
//! `cargo bench --workspace --bench operators`. The throughput of RoIAlign is bytes of its output per second, the minimum
//! that must be written.

use burn::tensor::{Device, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mrcnn_benches::{boxes, levels, rois, values};
use mrcnn_core::config::RpnConfig;
use mrcnn_core::model::{AnchorSlots, filter_proposals, image_sizes};
use mrcnn_kernels::roi_align::cpu;
use mrcnn_kernels::{RoiAlignParams, batched_nms, paste_mask, top_k};
use std::hint::black_box;

fn roi_align(c: &mut Criterion) {
    let channels = 256;
    let levels = levels();
    let cells: usize = levels.iter().map(|l| l.height * l.width).sum();
    let pyramid = values("features", cells * channels);
    let mut group = c.benchmark_group("roi_align");
    group.sample_size(10);
    for (count, bins) in [(1000, 7), (100, 14)] {
        let rois = rois(count);
        let params = RoiAlignParams {
            output: [bins; 2],
            sampling_ratio: 2,
            aligned: false,
            levels: levels.clone(),
        };
        // The output is written once; the cells that a sample reads are in the cache.
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
    let scores = values("scores", 200_000);
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

/// The proposals of an image of 800x1344 pixels on the CPU.
fn proposals(c: &mut Criterion) {
    let (config, device) = (RpnConfig::default(), Device::flex());
    let grids = [4, 8, 16, 32, 64].map(|stride: usize| (800usize.div_ceil(stride), 1344 / stride));
    let anchors = AnchorSlots::new((800, 1344), &grids, &config, &device);
    let [_, count, _] = anchors.boxes.dims();
    let noise = |name: &str, count: usize, scale: f32| -> Vec<f32> {
        values(name, count).iter().map(|v| scale * v).collect()
    };
    let objectness = TensorData::new(noise("objectness", count, 2.0), [1, count]);
    let deltas = TensorData::new(noise("deltas", 4 * count, 0.5), [1, count, 4]);
    let objectness = Tensor::<2>::from_data(objectness, &device);
    let deltas = Tensor::<3>::from_data(deltas, &device);
    let limits = [config.pre_nms_test, config.post_nms_test];
    let mut group = c.benchmark_group("selection");
    group.bench_function(format!("proposals of {count} anchors"), |b| {
        b.iter(|| {
            filter_proposals(
                objectness.clone(),
                deltas.clone(),
                &anchors,
                image_sizes(&[(800, 1344)], &device),
                &config,
                limits,
            )
        });
    });
    group.finish();
}

criterion_group!(benches, roi_align, selection, proposals);
criterion_main!(benches);
