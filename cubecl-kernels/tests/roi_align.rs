//! RoIAlign on the wgpu adapter against its CPU version, over random boxes of every kind.

mod adapter;

use adapter::{Adapter, adapter};
use burn::backend::Dispatch;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use mrcnn_kernels::roi_align::{RoiAlignOps, cpu};
use mrcnn_kernels::{PyramidLevel, RoiAlignParams, roi_align};

/// Sums of weighted values up to 1, in another order.
const SUMMED: f32 = 2e-6;

/// A sample's position is rounded three times at the size of the farthest corner, and the features'
/// slope is at most 2 a cell on each of two axes.
fn placed(reach: f32) -> f32 {
    3.0 * 2.0 * 2.0 * reach * 2.0f32.powi(-24)
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.between(-1.0, 1.0)).collect()
    }
}

/// P2 to P5 of a picture of 104x168 pixels, or the first `count` of them.
fn levels(count: usize) -> Vec<PyramidLevel> {
    let mut offset = 0;
    [(26, 42, 4.0), (13, 21, 8.0), (7, 11, 16.0), (1, 6, 32.0)]
        .into_iter()
        .take(count)
        .map(|(height, width, stride): (usize, usize, f32)| {
            let level = PyramidLevel {
                height,
                width,
                offset,
                scale: stride.recip(),
            };
            offset += height * width;
            level
        })
        .collect()
}

/// Kinds of boxes that [`draw`] knows; those from `WILD` on are far, broken or of no image.
const KINDS: usize = 11;
const WILD: usize = 7;

/// A row `[image, level, x1, y1, x2, y2]` of the given kind.
fn draw(random: &mut Random, kind: usize, images: usize, levels: usize) -> [f32; 6] {
    let (x, y) = (random.between(-20.0, 180.0), random.between(-20.0, 120.0));
    let side = |random: &mut Random| random.between(1.0, 120.0);
    let (w, h) = (side(random), side(random));
    let mut row = [x, y, x + w, y + h];
    let (mut image, mut level) = (random.below(images) as f32, random.below(levels) as f32);
    match kind {
        0 | 1 => {}
        2 => row = row.map(f32::round),
        3 => row = [x, y, x + 0.1 * random.between(0.0, 1.0), y + 0.5],
        4 => row = [x, y, x, y],
        5 => row = [x + w, y + h, x, y],
        6 => row = row.map(|v| v + 500.0),
        7 => row = [-1.0, -1.0, 1.0, 1.0].map(|v| v * random.between(1e3, 1e5)),
        8 => row = row.map(|v| v * random.between(1e5, 1e36)),
        9 => {
            let broken = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3)];
            row[random.below(4)] = broken;
        }
        _ => {
            let broken = [-1.0, f32::NAN, f32::INFINITY, 1e20];
            let nowhere = |random: &mut Random, count: usize| match random.below(5) {
                4 => count as f32,
                kind => broken[kind],
            };
            match random.below(2) {
                0 => image = nowhere(random, images),
                _ => level = nowhere(random, levels),
            }
        }
    }
    [image, level, row[0], row[1], row[2], row[3]]
}

/// Rows of all kinds below `kinds`, in turn, without those that rounding alone decides.
fn rois(
    random: &mut Random,
    count: usize,
    images: usize,
    kinds: usize,
    params: &RoiAlignParams,
) -> Vec<f32> {
    let mut rows = Vec::with_capacity(6 * count);
    while rows.len() < 6 * count {
        let kind = rows.len() / 6 % kinds;
        let row = draw(random, kind, images, params.levels.len());
        if !rounding_decides(&row, params) {
            rows.extend(row);
        }
    }
    rows
}

/// The farthest corner of a roi in cells, at least the size of the map; none if it has no level.
fn reach(row: &[f32; 6], params: &RoiAlignParams) -> Option<f32> {
    let level = params.levels.get(row[1] as usize)?;
    let size = level.height.max(level.width) as f32;
    Some(
        row[2..]
            .iter()
            .map(|v| (v * level.scale).abs())
            .fold(size, f32::max),
    )
}

/// Whether a sample lies so near to where samples stop counting (one cell outside the map), or an
/// adaptive bin so near to one sample more, that the last bit of a quotient decides.
fn rounding_decides(row: &[f32; 6], params: &RoiAlignParams) -> bool {
    let Some(reach) = reach(row, params) else {
        return false;
    };
    if !row.iter().all(|v| v.is_finite()) || reach > 65535.0 {
        // Pools nothing, unless it is at the very limit.
        return (reach - 65536.0).abs() < 2.0;
    }
    let level = &params.levels[row[1] as usize];
    let slack = 1e-6 + 8.0 * f64::from(reach) * f64::from(f32::EPSILON);
    let shift = if params.aligned { 0.5 } else { 0.0 };
    let axis = |from: f32, to: f32, bins: usize, size: usize| {
        let [from, to] = [from, to].map(|v| f64::from(v * level.scale - shift));
        let length = if params.aligned {
            to - from
        } else {
            (to - from).max(1.0)
        };
        let bin = length / bins as f64;
        let off = (bin - bin.round()).abs();
        let samples = match params.sampling_ratio {
            0 if off > 0.0 && off < slack => return true,
            0 => (bin.ceil().max(0.0) as usize).min(1 << 14),
            ratio => ratio,
        };
        (0..bins * samples).any(|sample| {
            let position = from + (sample as f64 + 0.5) * bin / samples as f64;
            (position + 1.0).abs() < slack || (position - size as f64).abs() < slack
        })
    };
    axis(row[2], row[4], params.output[1], level.width)
        || axis(row[3], row[5], params.output[0], level.height)
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Every kind of output, sampling and alignment.
fn settings() -> impl Iterator<Item = ([usize; 2], usize, bool)> {
    let outputs = [[7, 7], [14, 14], [1, 1], [3, 5]];
    outputs.into_iter().flat_map(|output| {
        (0..=3).flat_map(move |ratio| [false, true].map(move |aligned| (output, ratio, aligned)))
    })
}

const CHANNELS: [usize; 7] = [1, 3, 4, 5, 8, 64, 256];

#[test]
fn forward_equals_the_cpu_version() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    let mut random = Random(1);
    let mut cases = 0;
    for (index, (output, sampling_ratio, aligned)) in settings().enumerate() {
        for (column, channels) in CHANNELS.into_iter().enumerate() {
            let images = 1 + index % 3;
            // Counts at the edges of a cube of 256 units, where the features are small.
            let counts = [1, 22, 255, 256, 257];
            let count = if channels > 8 {
                22
            } else {
                counts[(index + column) % counts.len()]
            };
            let params = RoiAlignParams {
                output,
                sampling_ratio,
                aligned,
                levels: levels(1 + index % 4),
            };
            cases += count;
            forward_case(&mut random, images, channels, count, &params, device);
        }
    }
    println!("{cases} regions");
    assert!(cases >= 10_000);
}

fn forward_case(
    random: &mut Random,
    images: usize,
    channels: usize,
    count: usize,
    params: &RoiAlignParams,
    device: &Device,
) {
    let shape = [images, params.cells(), channels];
    let pyramid = random.values(shape.iter().product());
    let rows = rois(random, count, images, KINDS, params);
    let wanted = cpu::forward(&pyramid, shape, &rows, params);
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
    let regions = found.chunks(each).zip(wanted.chunks(each));
    for (row, (found, wanted)) in rows.as_chunks::<6>().0.iter().zip(regions) {
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
    let mut random = Random(2);
    let mut cases = 0;
    for (index, (output, sampling_ratio, aligned)) in settings().enumerate() {
        let channels = CHANNELS[index % CHANNELS.len()];
        let count = [1, 60, 255, 256, 257, 1100][index % 6].min(20_000 / (channels * output[0]));
        let params = RoiAlignParams {
            output,
            sampling_ratio,
            aligned,
            levels: levels(1 + index % 4),
        };
        // Far boxes in every other case: their weights are less exact.
        let kinds = if index % 2 == 0 { WILD } else { KINDS };
        cases += count;
        backward_case(
            &mut random,
            1 + index % 3,
            channels,
            count,
            kinds,
            &params,
            device,
        );
    }
    println!("{cases} regions");
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
    let gradient = || {
        let grad = tensor(&grad, shape, device).into_dispatch();
        let rois = tensor(&rows, [count, 6], device).into_dispatch();
        let gradient =
            <Dispatch as RoiAlignOps>::roi_align_backward(grad, rois, params.clone(), images);
        let gradient = Tensor::<3>::from_dispatch(gradient);
        assert_eq!(gradient.dims(), [images, params.cells(), channels]);
        floats(gradient)
    };
    let found = gradient();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(
        bits(&found) == bits(&gradient()),
        "two runs differ: {params:?}"
    );

    let wanted = cpu::backward(&grad, channels, &rows, params, images);
    // What a cell receives of gradients of 1: the sum of its weights.
    let mass = cpu::backward(&vec![1.0; grad.len()], channels, &rows, params, images);
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
    let (channels, count, images) = (8, 40, 2);
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: false,
        levels: levels(1),
    };
    let (height, width) = (params.levels[0].height, params.levels[0].width);
    let rows = rois(&mut random, count, images, WILD, &params);
    let grad = random.values(count * channels * 49);
    let feature_shape = [images, channels, height, width];
    let feature = random.values(feature_shape.iter().product());

    let tracked = device.clone().autodiff();
    let feature = tensor(&feature, feature_shape, &tracked).require_grad();
    let (cells, _) = mrcnn_kernels::pack_pyramid(std::slice::from_ref(&feature), &[0.25]);
    let pooled = roi_align(cells, tensor(&rows, [count, 6], &tracked), &params);
    let weights = Tensor::from_inner(tensor(&grad, [count, channels, 7, 7], device));
    let gradients = (pooled * weights).sum().backward();
    let found = feature
        .grad(&gradients)
        .expect("the feature has a gradient");
    let found = floats(found.permute([0, 2, 3, 1]));
    let wanted = cpu::backward(&grad, channels, &rows, &params, images);
    for (found, wanted) in found.iter().zip(wanted.iter::<f32>()) {
        // Up to a few hundred weights of at most 1 a cell.
        assert!(
            (found - wanted).abs() <= 1e-4,
            "{found} instead of {wanted}"
        );
    }
}

#[test]
fn half_precision_is_summed_in_f32() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    if !device.supports_dtype(DType::F16) {
        eprintln!("SKIPPED: the adapter has no f16");
        return;
    }
    let mut random = Random(4);
    let (channels, count, images) = (8, 100, 2);
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: true,
        levels: levels(4),
    };
    let shape = [images, params.cells(), channels];
    let rows = rois(&mut random, count, images, WILD, &params);
    let pyramid =
        tensor(&random.values(shape.iter().product()), shape, device).cast(FloatDType::F16);
    let found = roi_align(pyramid.clone(), tensor(&rows, [count, 6], device), &params);
    assert_eq!(found.dtype(), DType::F16);
    let wanted = cpu::forward(&floats(pyramid), shape, &rows, &params);
    for (found, wanted) in floats(found).iter().zip(wanted.iter::<f32>()) {
        // Rounded once to 11 bits; boxes reach less than 200 cells.
        let tolerance = 2.0f32.powi(-11) + placed(200.0);
        assert!(
            (found - wanted).abs() <= tolerance,
            "{found} instead of {wanted}"
        );
    }
}

#[test]
fn no_regions_pool_nothing() {
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: false,
        levels: levels(2),
    };
    let pyramid = Tensor::<3>::ones([1, params.cells(), 4], device);
    let rois = Tensor::<2>::zeros([0, 6], device);
    let pooled = roi_align(pyramid, rois.clone(), &params);
    assert_eq!(pooled.dims(), [0, 4, 7, 7]);
    let gradient = <Dispatch as RoiAlignOps>::roi_align_backward(
        pooled.into_dispatch(),
        rois.into_dispatch(),
        params.clone(),
        1,
    );
    let gradient = floats(Tensor::<3>::from_dispatch(gradient));
    assert_eq!(gradient, vec![0.0; params.cells() * 4]);
}
