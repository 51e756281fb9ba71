//! RoIAlign on the wgpu adapter at the sizes of a COCO image (800x1344, R50-FPN): the kernels, compared with a round trip
//! through host memory.
//!
//! `cargo bench --workspace --bench gpu_roi_align`. Before each pair of times, the minimum of bytes to
//! move is printed: what is read at least once, and what is written.

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor, TensorData};
use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use mrcnn_benches::time;
use mrcnn_benches::{levels, rois, values};
use mrcnn_kernels::RoiAlignParams;
use mrcnn_kernels::roi_align::{RoiAlignOps, cpu};

const CHANNELS: usize = 256;

/// One size of the operator, with its tensors on the device.
struct Case {
    params: RoiAlignParams,
    device: Device,
    rois: Tensor<2>,
    pyramid: Tensor<3>,
    /// With the layout of the gradient of a linear layer.
    grad: Tensor<4>,
    /// Channels-last, the layout of the gradient of a convolution.
    grad_nhwc: Tensor<4>,
}

impl Case {
    fn new(count: usize, bins: usize, device: &Device) -> Self {
        let params = RoiAlignParams {
            output: [bins; 2],
            sampling_ratio: 2,
            aligned: false,
            levels: levels(),
        };
        let rois = rois(count);
        // Cells that some RoI reads: those with a gradient for output gradients of 1.
        let cells = params.cells();
        let reached = cpu::backward(&vec![1.0; count * bins * bins], 1, &rois, &params, 1);
        let reached = reached
            .iter::<f32>()
            .filter(|weight| *weight != 0.0)
            .count();
        let megabytes = |cells: usize| (cells * CHANNELS * 4) as f64 / 1e6;
        let pooled = megabytes(count * bins * bins);
        println!(
            "{count}x{bins}x{bins}: forward reads {:.1} MB and writes {pooled:.1} MB, backward reads \
             {pooled:.1} MB and writes {:.1} MB, at least",
            megabytes(reached),
            megabytes(cells)
        );
        let pyramid = values("features", cells * CHANNELS);
        let grad = TensorData::new(
            values("gradient", count * CHANNELS * bins * bins),
            [count, CHANNELS, bins, bins],
        );
        let nhwc = TensorData::new(
            values("gradient", count * CHANNELS * bins * bins),
            [count, bins, bins, CHANNELS],
        );
        Self {
            params,
            device: device.clone(),
            rois: Tensor::from_data(TensorData::new(rois, [count, 6]), device),
            pyramid: Tensor::from_data(TensorData::new(pyramid, [1, cells, CHANNELS]), device),
            grad: Tensor::from_data(grad, device),
            grad_nhwc: Tensor::<4>::from_data(nhwc, device).permute([0, 3, 1, 2]),
        }
    }

    fn forward_kernel(&self) -> Tensor<4> {
        mrcnn_kernels::roi_align(self.pyramid.clone(), self.rois.clone(), &self.params)
    }

    fn forward_on_host(&self) -> Tensor<4> {
        let pyramid = self.pyramid.clone().into_data();
        let rois = self.rois.clone().into_data();
        let shape = self.pyramid.dims();
        let pooled = cpu::forward(floats(&pyramid), shape, floats(&rois), &self.params);
        Tensor::from_data(pooled, &self.device)
    }

    fn backward_kernel(&self, grad: &Tensor<4>) -> Tensor<3> {
        Tensor::from_dispatch(<Dispatch as RoiAlignOps>::roi_align_backward(
            grad.clone().into_dispatch(),
            self.rois.clone().into_dispatch(),
            self.params.clone(),
            1,
        ))
    }

    fn backward_on_host(&self) -> Tensor<3> {
        let grad = self.grad.clone().into_data();
        let rois = self.rois.clone().into_data();
        let gradient = cpu::backward(floats(&grad), CHANNELS, floats(&rois), &self.params, 1);
        Tensor::from_data(gradient, &self.device)
    }

    /// Times `run` until the device is idle.
    fn time<const D: usize>(&self, bencher: &mut Bencher<'_>, run: impl Fn(&Self) -> Tensor<D>) {
        self.device.sync().expect("the device is alive");
        bencher.iter_custom(|times| {
            time(times, || {
                let result = run(self);
                self.device.sync().expect("the device is alive");
                result
            })
        });
    }
}

fn floats(data: &TensorData) -> &[f32] {
    data.as_slice::<f32>().expect("f32 tensors")
}

fn gpu_roi_align(c: &mut Criterion) {
    let selected = match mrcnn_benches::gpu() {
        Ok(selected) => selected,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    println!("{}", selected.name);
    let mut group = c.benchmark_group("gpu_roi_align");
    group.sample_size(10);
    for (count, bins) in [(1000, 7), (100, 14)] {
        let case = Case::new(count, bins, &selected.device);
        let size = format!("{count}x{bins}x{bins}");
        let id = |name: &str| BenchmarkId::new(name, &size);
        group.bench_function(id("forward, kernel"), |b| {
            case.time(b, Case::forward_kernel)
        });
        group.bench_function(id("forward, host"), |b| case.time(b, Case::forward_on_host));
        group.bench_function(id("backward, kernel"), |b| {
            case.time(b, |case| case.backward_kernel(&case.grad_nhwc));
        });
        group.bench_function(id("backward, copy and kernel"), |b| {
            case.time(b, |case| case.backward_kernel(&case.grad));
        });
        group.bench_function(id("backward, host"), |b| {
            case.time(b, Case::backward_on_host)
        });
    }
    group.finish();
}

criterion_group!(benches, gpu_roi_align);
criterion_main!(benches);
