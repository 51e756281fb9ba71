//! Inputs and clock shared by the benchmarks in `benches/`; the results are in `RESULTS.md`.

use mrcnn_backends::{BackendError, Selected, select};
use mrcnn_core::random::Stream;
use mrcnn_kernels::PyramidLevel;
use std::time::{Duration, Instant};

/// The GPU to measure: that of the backend which `MRCNN_TEST_BACKEND` names, `wgpu` (the default) or `cuda`.
pub fn gpu() -> Result<Selected, BackendError> {
    let name = std::env::var("MRCNN_TEST_BACKEND").unwrap_or_else(|_| "wgpu".into());
    select(name.parse()?)
}

/// Duration of `times` runs of `work`, for criterion's `iter_custom`.
///
/// Wall time, or with `MRCNN_BENCH_CLOCK=cpu` (`processor` before) the CPU time of all threads of this process. On a software adapter these
/// threads also do the work of the device, and CPU time hardly depends on the other load of a shared machine.
pub fn time<T>(times: u64, mut work: impl FnMut() -> T) -> Duration {
    let is_cpu_time = std::env::var("MRCNN_BENCH_CLOCK")
        .is_ok_and(|clock| clock == "cpu" || clock == "processor");
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

/// P2 to P5 of an 800x1344 image.
pub fn levels() -> Vec<PyramidLevel> {
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

/// Boxes with sides of 8 to 320 pixels in an 800x1344 image.
pub fn boxes(count: usize) -> Vec<[f32; 4]> {
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

/// [`boxes`] as rows `[image, level, x1, y1, x2, y2]` of [`levels`].
pub fn rois(count: usize) -> Vec<f32> {
    boxes(count)
        .iter()
        .flat_map(|&[x1, y1, x2, y2]| {
            let level = mrcnn_core::boxes::pyramid_level(&[x1, y1, x2, y2], 2, 5);
            [0.0, level as f32, x1, y1, x2, y2]
        })
        .collect()
}

/// `count` random numbers in `[0, 1)`.
pub fn values(name: &str, count: usize) -> Vec<f32> {
    let stream = Stream::named(name, 0);
    (0..count as u64)
        .map(|i| stream.uniform(i) as f32)
        .collect()
}
