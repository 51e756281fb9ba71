//! conv3x3 compared with Burn's own convolution on the wgpu adapter, at the shapes of R50-FPN.
//!
//! `cargo bench --workspace --bench gpu_conv3x3`. Elements are floating-point operations, two per
//! multiply-add, so that `Gelem/s` means GFLOP/s. A name after `--` selects shapes.

use burn::backend::{Dispatch, ops::ModuleOps};
use burn::tensor::{Device, Distribution, Tensor, module, ops::ConvOptions};
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use mrcnn_benches::time;
use mrcnn_kernels::conv3x3::{Conv3x3Ops, conv3x3};
use std::time::Duration;

/// Images, channels in and out, rows, columns, stride.
const SHAPES: [(&str, [usize; 6]); 8] = [
    ("p5", [1, 256, 256, 25, 34, 1]),
    ("p4", [1, 256, 256, 50, 68, 1]),
    ("p3", [1, 256, 256, 100, 136, 1]),
    ("p2", [1, 256, 256, 200, 272, 1]),
    ("c2", [1, 64, 64, 128, 128, 1]),
    ("mask_head", [32, 256, 256, 14, 14, 1]),
    ("c4_strided", [1, 256, 256, 100, 136, 2]),
    ("image", [1, 3, 64, 128, 128, 1]),
];

fn benches(c: &mut Criterion) {
    let device = match mrcnn_benches::gpu() {
        Ok(selected) => selected.device,
        Err(error) => return eprintln!("SKIPPED: {error}"),
    };
    for (name, [n, inputs, outputs, h, w, stride]) in SHAPES {
        let options = || ConvOptions::new([stride; 2], [1, 1], [1, 1], 1);
        let [x, weight] = [[n, inputs, h, w], [outputs, inputs, 3, 3]]
            .map(|shape| Tensor::<4>::random(shape, Distribution::Default, &device));
        // Channels-last, the layout of a convolution output.
        let x = x
            .permute([0, 2, 3, 1])
            .reshape([n, h, w, inputs])
            .permute([0, 3, 1, 2]);
        let bias = Tensor::<1>::zeros([outputs], &device);
        let grad = conv3x3(x.clone(), weight.clone(), None, stride, false);
        let [_, _, rows, cols] = grad.dims();

        let mut group = c.benchmark_group(format!("conv3x3 {name}"));
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_millis(100));
        group.throughput(Throughput::Elements(
            (2 * 9 * n * inputs * outputs * rows * cols) as u64,
        ));
        let mut compare = |pass: &str, name: &str, operation: &dyn Fn()| {
            group.bench_function(BenchmarkId::new(pass, name), |bench| {
                bench.iter_custom(|times| {
                    time(times, || {
                        operation();
                        sync(&device);
                    })
                });
            });
        };
        let (d_x, d_weight, d_grad) = (
            || x.clone().into_dispatch(),
            || weight.clone().into_dispatch(),
            || grad.clone().into_dispatch(),
        );
        compare("forward", "ours", &|| {
            conv3x3(x.clone(), weight.clone(), Some(bias.clone()), stride, true);
        });
        compare("forward", "burn", &|| {
            let output = module::conv2d(x.clone(), weight.clone(), Some(bias.clone()), options());
            burn::tensor::activation::relu(output);
        });
        compare("input gradient", "ours", &|| {
            <Dispatch as Conv3x3Ops>::conv3x3_input_gradient(d_x(), d_weight(), d_grad(), stride);
        });
        compare("input gradient", "burn", &|| {
            Dispatch::conv2d_x_backward(d_x(), d_weight(), d_grad(), options());
        });
        compare("weight gradient", "ours", &|| {
            <Dispatch as Conv3x3Ops>::conv3x3_weight_gradient(d_x(), d_weight(), d_grad(), stride);
        });
        compare("weight gradient", "burn", &|| {
            Dispatch::conv2d_weight_backward(d_x(), d_weight(), d_grad(), options());
        });
        group.finish();
    }
}

fn sync(device: &Device) {
    if let Err(error) = device.sync() {
        eprintln!("the device failed: {error}");
    }
}

criterion_group!(all, benches);
criterion_main!(all);
