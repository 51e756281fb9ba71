//! RoIAlign on the wgpu adapter compared with its CPU version, on random boxes of every kind.

#[path = "../adapter/mod.rs"]
mod adapter;
#[path = "../boxes/mod.rs"]
mod boxes;
mod f16;
mod heads;
mod padding;
#[path = "../random/mod.rs"]
mod random;

use adapter::{Adapter, adapter};
use boxes::{KINDS, WILD, levels, reach, rois};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, Flex};
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_kernels::roi_align::{RoiAlignOps, cpu};
use mrcnn_kernels::{PyramidLevel, RoiAlignParams, roi_align};
use random::Random;

/// Tolerance for sums of weighted values up to 1 in another order.
const SUMMED: f32 = 2e-6;

/// Tolerance for sample positions, which are rounded three times at the magnitude of the farthest corner, with a slope
/// of the features of at most 2 per cell on each of two axes.
fn placed(reach: f32) -> f32 {
    3.0 * 2.0 * 2.0 * reach * 2.0f32.powi(-24)
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The gradient of the pyramid by the CPU version.
fn cpu_gradient(
    grad: &[f32],
    channels: usize,
    rows: &[f32],
    params: &RoiAlignParams,
    images: usize,
) -> TensorData {
    let [height, width] = params.output;
    let grad = TensorData::new(grad.to_vec(), [rows.len() / 6, channels, height, width]);
    let grad = Flex::float_from_data(grad, &Default::default());
    cpu::backward(grad, rows, params, images).into_data()
}

/// The gradient of the pyramid `[images * cells, c]` by the operations of the device of `grad [r, c, h, w]`.
fn gradient(grad: Tensor<4>, rois: Tensor<2>, params: &RoiAlignParams, images: usize) -> Tensor<2> {
    let rois = rois.into_dispatch();
    let records = <Dispatch as RoiAlignOps>::roi_records(rois, params.clone(), images);
    let grad = grad.into_dispatch();
    let params = params.clone();
    let gradient = <Dispatch as RoiAlignOps>::roi_align_backward(grad, records, params, images);
    Tensor::from_dispatch(gradient)
}

/// Every kind of output, sampling, alignment and padding, without levels.
fn settings() -> Vec<RoiAlignParams> {
    let outputs = [[7, 7], [14, 14], [1, 1], [3, 5]];
    let flags = [(false, false), (false, true), (true, false), (true, true)];
    let settings = outputs.into_iter().flat_map(|output| {
        (0..=3).flat_map(move |sampling_ratio| {
            flags.map(|(aligned, zero_padding)| RoiAlignParams {
                output,
                sampling_ratio,
                aligned,
                zero_padding,
                levels: vec![],
            })
        })
    });
    settings.collect()
}

const CHANNELS: [usize; 7] = [1, 3, 4, 5, 8, 64, 256];

#[test]
fn forward_equals_the_cpu_version() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    let settings = settings();
    random::cases("RoIAlign forward", settings.len(), |random, round| {
        let channels = CHANNELS[round % CHANNELS.len()];
        // Counts at the edges of a cube of 256 units, where the features are small.
        let count = match channels {
            0..=8 => [1, 22, 255, 256, 257][round % 5],
            _ => 22,
        };
        let params = RoiAlignParams {
            levels: levels(1 + random.below(4)),
            ..settings[round % settings.len()].clone()
        };
        forward_case(random, 1 + round % 3, channels, count, &params, device);
        count
    });
}

#[test]
fn every_count_of_rois_is_pooled() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    let params = RoiAlignParams {
        output: [1, 1],
        sampling_ratio: 1,
        aligned: true,
        zero_padding: false,
        levels: levels(4),
    };
    forward_case(&mut Random(5), 3, 1, 65_536, &params, device);
    backward_case(&mut Random(6), 3, 1, 65_536, WILD, &params, device);
}

fn forward_case(
    random: &mut Random,
    images: usize,
    channels: usize,
    count: usize,
    params: &RoiAlignParams,
    device: &Device,
) {
    let shape = [images * params.cells(), channels];
    let pyramid = random.values(shape.iter().product());
    let rows = rois(random, count, images, KINDS, params);
    let wanted = cpu::forward(&pyramid, [images, channels], &rows, params).into_data();
    let found = roi_align(
        tensor(&pyramid, shape, device),
        tensor(&rows, [count, 6], device),
        params,
    );
    let [height, width] = params.output;
    assert_eq!(found.dims(), [count, channels, height, width]);
    let found = floats(found);
    let wanted: Vec<f32> = wanted.iter::<f32>().collect();
    let each = channels * height * width;
    let pooled = found.chunks(each).zip(wanted.chunks(each));
    for (row, (found, wanted)) in rows.as_chunks::<6>().0.iter().zip(pooled) {
        let tolerance = SUMMED + placed(reach(row, params).unwrap_or(0.0).min(65536.0));
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(
                (found - wanted).abs() <= tolerance,
                "{found} instead of {wanted} within {tolerance} for {row:?}, {channels} channels, {params:?}"
            );
        }
    }
}

#[test]
fn backward_equals_the_cpu_version_and_itself() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    let settings = settings();
    random::cases("RoIAlign backward", settings.len(), |random, round| {
        let channels = CHANNELS[round % CHANNELS.len()];
        let params = RoiAlignParams {
            levels: levels(1 + random.below(4)),
            ..settings[round % settings.len()].clone()
        };
        let largest = 20_000 / (channels * params.output[0]);
        // Five, so that no count has only some of the settings and channels, whose numbers are 64 and 7.
        let count = [1, 255, 256, 257, 1100][round % 5].min(largest);
        // Distant boxes in every other case, because their weights are less exact.
        let kinds = if random.below(2) == 0 { WILD } else { KINDS };
        backward_case(
            random,
            1 + round % 3,
            channels,
            count,
            kinds,
            &params,
            device,
        );
        count
    });
}

#[allow(clippy::too_many_arguments)]
fn backward_case(
    random: &mut Random,
    images: usize,
    channels: usize,
    count: usize,
    kinds: usize,
    params: &RoiAlignParams,
    device: &Device,
) {
    let rows = rois(random, count, images, kinds, params);
    let [height, width] = params.output;
    let shape = [count, channels, height, width];
    let grad = random.values(shape.iter().product());
    let run = || {
        let grad = tensor(&grad, shape, device);
        let gradient = gradient(grad, tensor(&rows, [count, 6], device), params, images);
        assert_eq!(gradient.dims(), [images * params.cells(), channels]);
        floats(gradient)
    };
    let found = run();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(bits(&found) == bits(&run()), "two runs differ: {params:?}");
    assert_gradient(&found, &grad, channels, &rows, params, images);
}

/// Asserts that `found` is the gradient of the pyramid `[images * cells, c]` by the CPU version.
fn assert_gradient(
    found: &[f32],
    grad: &[f32],
    channels: usize,
    rows: &[f32],
    params: &RoiAlignParams,
    images: usize,
) {
    assert_eq!(found.len(), images * params.cells() * channels);
    let wanted = cpu_gradient(grad, channels, rows, params, images);
    // The gradient of a cell for output gradients of 1 is the sum of its weights.
    let mass = cpu_gradient(&vec![1.0; grad.len()], channels, rows, params, images);
    let farthest = rows
        .as_chunks::<6>()
        .0
        .iter()
        .filter_map(|row| reach(row, params));
    let farthest = farthest
        .filter(|reach| *reach <= 65536.0)
        .fold(0.0, f32::max);
    let each = SUMMED + placed(farthest);
    for ((found, wanted), mass) in found
        .iter()
        .zip(wanted.iter::<f32>())
        .zip(mass.iter::<f32>())
    {
        let tolerance = each * (1.0 + mass);
        assert!(
            (found - wanted).abs() <= tolerance,
            "{found} instead of {wanted} within {tolerance}: {channels} channels, {params:?}"
        );
    }
}

#[test]
fn autodiff_reaches_the_features_through_packing() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    let mut random = Random(3);
    let (channels, count, images) = (8, 120, 2);
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: false,
        zero_padding: false,
        levels: levels(4),
    };
    let rows = rois(&mut random, count, images, WILD, &params);
    let grad = random.values(count * channels * 49);
    let tracked = device.clone().autodiff();
    let feature = |level: &PyramidLevel| {
        let shape = [images, channels, level.height, level.width];
        tensor(&random.values(shape.iter().product()), shape, &tracked).require_grad()
    };
    let features: Vec<Tensor<4>> = params.levels.iter().map(feature).collect();
    let scales: Vec<f32> = params.levels.iter().map(|level| level.scale).collect();
    let (cells, packed) = mrcnn_kernels::pack_pyramid(&features, &scales);
    assert_eq!(packed, params.levels);

    let pooled = roi_align(cells, tensor(&rows, [count, 6], &tracked), &params);
    let weights = Tensor::from_inner(tensor(&grad, [count, channels, 7, 7], device));
    let gradients = (pooled * weights).sum().backward();
    // All images of a level come before the next level.
    let found = features.iter().flat_map(|feature| {
        let gradient = feature.grad(&gradients).expect("features have gradients");
        floats(gradient.permute([0, 2, 3, 1]))
    });
    let found: Vec<f32> = found.collect();
    assert_gradient(&found, &grad, channels, &rows, &params, images);
}

#[test]
fn no_rois_give_an_empty_output() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: false,
        zero_padding: false,
        levels: levels(2),
    };
    let pyramid = Tensor::<2>::ones([params.cells(), 4], device);
    let rois = Tensor::<2>::zeros([0, 6], device);
    let pooled = roi_align(pyramid, rois.clone(), &params);
    assert_eq!(pooled.dims(), [0, 4, 7, 7]);
    let gradient = floats(gradient(pooled, rois, &params, 1));
    assert_eq!(gradient, vec![0.0; params.cells() * 4]);
}
