//! Convolutions of R50-FPN on the CPU: output, input gradient and weight gradient in milliseconds, GFLOP/s and percent
//! of the ceiling. The ceiling is the rate of a matrix product of the same run or, if that is less, what the bandwidth
//! of the same run allows when both operands and the result cross memory once.
//!
//! `MRCNN_BENCH_CLOCK=cpu RAYON_NUM_THREADS=1 cargo bench --workspace --bench cpu_conv`. A name after `--`
//! selects layers. The fastest of several runs counts.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Device, Distribution, Tensor};
use mrcnn_kernels::conv::{self, ConvParams, conv2d};
use std::time::{Duration, Instant};

/// Name; images, channels in and out, rows, columns; kernel, stride and groups.
type Layer = (&'static str, [usize; 5], [usize; 3]);

/// At 800x1344.
const LAYERS: [Layer; 28] = [
    ("stem 7x7/2", [1, 3, 64, 800, 1344], [7, 2, 1]),
    ("3x3 64 C2", [1, 64, 64, 200, 336], [3, 1, 1]),
    ("3x3 128/2", [1, 128, 128, 200, 336], [3, 2, 1]),
    ("3x3 128 C3", [1, 128, 128, 100, 168], [3, 1, 1]),
    ("3x3 256 C4", [1, 256, 256, 50, 84], [3, 1, 1]),
    ("3x3 512/2", [1, 512, 512, 50, 84], [3, 2, 1]),
    ("3x3 512 C5", [1, 512, 512, 25, 42], [3, 1, 1]),
    ("3x3 256 P2", [1, 256, 256, 200, 336], [3, 1, 1]),
    ("3x3 256 P3", [1, 256, 256, 100, 168], [3, 1, 1]),
    ("3x3 256 P5", [1, 256, 256, 25, 42], [3, 1, 1]),
    ("1x1 64-256 C2", [1, 64, 256, 200, 336], [1, 1, 1]),
    ("1x1 256-64 C2", [1, 256, 64, 200, 336], [1, 1, 1]),
    ("1x1 512-128 C3", [1, 512, 128, 100, 168], [1, 1, 1]),
    ("1x1 1024-256 C4", [1, 1024, 256, 50, 84], [1, 1, 1]),
    ("1x1 256-1024 C4", [1, 256, 1024, 50, 84], [1, 1, 1]),
    ("1x1 2048-512 C5", [1, 2048, 512, 25, 42], [1, 1, 1]),
    ("1x1 256-512/2", [1, 256, 512, 200, 336], [1, 2, 1]),
    ("1x1 lateral P2", [1, 256, 256, 200, 336], [1, 1, 1]),
    ("1x1 rpn heads P2", [1, 256, 15, 200, 336], [1, 1, 1]),
    ("3x3 mask head x100", [100, 256, 256, 14, 14], [3, 1, 1]),
    ("1x1 deconv x100", [100, 256, 1024, 14, 14], [1, 1, 1]),
    ("1x1 logits x100", [100, 256, 91, 28, 28], [1, 1, 1]),
    ("ResNeXt 128/32 C2", [1, 128, 128, 200, 336], [3, 1, 32]),
    ("dense 128 C2", [1, 128, 128, 200, 336], [3, 1, 1]),
    ("ResNeXt 256/32 C3", [1, 256, 256, 100, 168], [3, 1, 32]),
    ("ResNeXt 512/32 C4", [1, 512, 512, 50, 84], [3, 1, 32]),
    ("ResNeXt 1024/32 /2", [1, 1024, 1024, 50, 84], [3, 2, 32]),
    ("dense 1024 /2", [1, 1024, 1024, 50, 84], [3, 2, 1]),
];

fn main() {
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    let device = Device::flex();
    let (product, bandwidth) = (matmul(&device), bandwidth());
    println!(
        "matrix product of 1536 x 1536 x 1536: {product:.0} GFLOP/s; copy: {bandwidth:.1} GB/s"
    );
    println!(
        "{:>20}{:>24}{:>24}{:>24}",
        "layer", "output", "input gradient", "weight gradient"
    );
    for (name, sizes, kernel) in LAYERS {
        if names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str())) {
            let (operations, bytes) = work(sizes, kernel);
            let ceiling = product.min(operations / bytes * bandwidth);
            let columns = layer(sizes, kernel, &device).map(|seconds| {
                let rate = operations / seconds / 1e9;
                let cell = format!(
                    "{:.1} ms {rate:.0} {:.0}%",
                    seconds * 1e3,
                    100.0 * rate / ceiling
                );
                format!("{cell:>24}")
            });
            println!("{name:>20}{}", columns.concat());
        }
    }
}

/// Multiplications and additions of a layer, and bytes of its input, weights and output.
fn work([n, c, o, h, w]: [usize; 5], [kernel, stride, groups]: [usize; 3]) -> (f64, f64) {
    let pixels = n * h.div_ceil(stride) * w.div_ceil(stride);
    let weights = o * c / groups * kernel * kernel;
    let values = n * c * h * w + weights + o * pixels;
    (2.0 * (pixels * weights) as f64, 4.0 * values as f64)
}

/// Seconds of the output, the input gradient and the weight gradient.
fn layer(
    [n, c, o, h, w]: [usize; 5],
    [kernel, stride, groups]: [usize; 3],
    device: &Device,
) -> [f64; 3] {
    let random = |shape| Tensor::<4>::random(shape, Distribution::Default, device);
    let [rows, columns] = [h.div_ceil(stride), w.div_ceil(stride)];
    let (x, weight) = (
        random([n, c, h, w]),
        random([o, c / groups, kernel, kernel]),
    );
    let grad = random([n, o, rows, columns]);
    let scale = Tensor::<1>::ones([o], device);
    let output = fastest(|| {
        let params = ConvParams {
            weight: weight.clone(),
            scale: None,
            bias: None,
            stride,
        };
        conv2d(x.clone(), params, None, true)
    });
    let on_flex = |tensor: &Tensor<4>| Flex::float_from_data(tensor.to_data(), &Default::default());
    let [x, weight, grad] = [&x, &weight, &grad].map(on_flex);
    let scale = Flex::float_from_data(scale.to_data(), &Default::default());
    let input_gradient = fastest(|| {
        let (weight, grad) = (weight.clone(), grad.clone());
        conv::input_gradient(weight, Some(scale.clone()), grad, groups, [h, w], stride)
    });
    let weight_gradient =
        fastest(|| conv::weight_gradient(x.clone(), grad.clone(), groups, kernel, stride));
    [output, input_gradient, weight_gradient]
}

/// GFLOP/s of Burn's matrix product: what the kernels are compared with.
fn matmul(device: &Device) -> f64 {
    const SIZE: usize = 1536;
    let [a, b] = [0; 2].map(|_| Tensor::<2>::random([SIZE, SIZE], Distribution::Default, device));
    let seconds = fastest(|| a.clone().matmul(b.clone()));
    2.0 * (SIZE as f64).powi(3) / seconds / 1e9
}

/// GB/s that all threads together read and write when they copy an array that no cache holds.
fn bandwidth() -> f64 {
    const LEN: usize = 32 << 20;
    let (from, mut to) = (vec![1.0f32; LEN], vec![0.0f32; LEN]);
    let part = LEN.div_ceil(rayon::current_num_threads());
    let seconds = fastest(|| {
        rayon::scope(|scope| {
            for (to, from) in to.chunks_mut(part).zip(from.chunks(part)) {
                scope.spawn(|_| to.copy_from_slice(from));
            }
        });
    });
    2.0 * 4.0 * LEN as f64 / seconds / 1e9
}

/// Seconds of the fastest of some runs.
fn fastest<T>(mut work: impl FnMut() -> T) -> f64 {
    let runs = (0..6).map(|_| time(1, &mut work).as_secs_f64());
    runs.fold(f64::INFINITY, f64::min)
}

/// Duration of `times` runs of `work`.
///
/// Wall time; with `MRCNN_BENCH_CLOCK=cpu`, CPU time of all threads of this process, which hardly depends on the other
/// load of a shared machine.
fn time<T>(times: u64, mut work: impl FnMut() -> T) -> Duration {
    let is_cpu_time = std::env::var("MRCNN_BENCH_CLOCK").is_ok_and(|clock| clock == "cpu");
    let (start, cpu) = (Instant::now(), cpu_time::ProcessTime::now());
    for _ in 0..times {
        std::hint::black_box(work());
    }
    if is_cpu_time {
        cpu.elapsed()
    } else {
        start.elapsed()
    }
}
