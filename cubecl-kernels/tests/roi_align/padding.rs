//! Maps padded with zeros.

use super::adapter::adapter;
use super::random::Random;
use super::{SUMMED, gradient, placed, tensor};
use burn::tensor::{Device, Tensor};
use mrcnn_kernels::{PyramidLevel, RoiAlignParams, roi_align};

const SIZE: [usize; 2] = [5, 6];
/// Cells of padding on each side, more than a sample beyond the map can reach.
const RING: usize = 2;
const STRIDE: f32 = 4.0;
const CHANNELS: usize = 4;

/// Zero padding equals a map with a border of zeros, for windows of whole cells and for other boxes.
#[test]
fn zero_padding_equals_a_border_of_zeros() {
    let gpu = adapter();
    let gpu = gpu.as_ref().map(|adapter| adapter.device.clone());
    for device in gpu.into_iter().chain([Device::flex()]) {
        check(&windows(), 1, &device);
        let mut random = Random(12);
        for sampling_ratio in [0, 1, 2] {
            check(&boxes(&mut random, 60), sampling_ratio, &device);
        }
    }
}

/// Windows of 3 x 3 cells around each cell, and of every second cell around every second cell, as of the level above.
fn windows() -> Vec<[f32; 4]> {
    let [height, width] = SIZE;
    let windows = [1, 2].into_iter().flat_map(|spacing| {
        let half = 1.5 * spacing as f32;
        let centers = (0..height).step_by(spacing).flat_map(move |y| {
            (0..width)
                .step_by(spacing)
                .map(move |x| (y as f32, x as f32))
        });
        // Samples are in the middle of bins, and cells at whole coordinates.
        centers.map(move |(y, x)| [x - half, y - half, x + half, y + half].map(|v| v * STRIDE))
    });
    windows.collect()
}

fn boxes(random: &mut Random, count: usize) -> Vec<[f32; 4]> {
    let boxes = (0..count).map(|_| {
        let [x, y] = [0; 2].map(|_| random.between(-16.0, 28.0));
        let [w, h] = [0; 2].map(|_| random.between(4.0, 32.0));
        [x, y, x + w, y + h]
    });
    boxes.collect()
}

/// Without a border, parameters with `zero_padding`; with a border of zeros, without.
fn params(border: usize, sampling_ratio: usize) -> RoiAlignParams {
    let [height, width] = SIZE.map(|size| size + 2 * border);
    RoiAlignParams {
        output: [3, 3],
        sampling_ratio,
        aligned: false,
        zero_padding: border == 0,
        levels: vec![PyramidLevel {
            height,
            width,
            offset: 0,
            scale: 1.0 / STRIDE,
        }],
    }
}

/// Forward and gradient, `boxes` in pixels of the map without a border.
fn check(boxes: &[[f32; 4]], sampling_ratio: usize, device: &Device) {
    let mut random = Random(13);
    let [height, width] = SIZE;
    let map = tensor::<3>(
        &random.values(height * width * CHANNELS),
        [height, width, CHANNELS],
        device,
    );
    let grad = random.values(boxes.len() * CHANNELS * 9);
    let run = |border: usize| {
        let params = params(border, sampling_ratio);
        let cells = params.cells();
        let shift = border as f32 * STRIDE;
        let rows = boxes.iter().flat_map(|corners| {
            let [x1, y1, x2, y2] = corners.map(|v| v + shift);
            [0.0, 0.0, x1, y1, x2, y2]
        });
        let rois = tensor::<2>(&rows.collect::<Vec<f32>>(), [boxes.len(), 6], device);
        let pyramid = bordered(map.clone(), border).reshape([cells, CHANNELS]);
        let pooled = roi_align(pyramid, rois.clone(), &params);
        let grad = tensor::<4>(&grad, [boxes.len(), CHANNELS, 3, 3], device);
        let [height, width] = SIZE.map(|size| size + 2 * border);
        let gradient = gradient(grad, rois, &params, 1).reshape([height, width, CHANNELS]);
        let [height, width] = SIZE;
        let gradient = gradient.narrow(0, border, height).narrow(1, border, width);
        [pooled.flatten::<1>(0, 3), gradient.flatten::<1>(0, 2)]
    };
    // Corners are within 20 cells. A gradient is a sum of at most nine bins of each box.
    let tolerance = SUMMED + placed(20.0);
    let tolerances = [tolerance, tolerance * (9 * boxes.len()) as f32];
    let pairs = run(0).into_iter().zip(run(RING)).zip(tolerances);
    for (what, ((found, wanted), tolerance)) in ["forward", "gradient"].into_iter().zip(pairs) {
        let error = (found - wanted).abs().max().into_scalar::<f32>();
        assert!(
            error <= tolerance,
            "{what} with sampling ratio {sampling_ratio} on {device:?}: {error}"
        );
    }
}

/// The map `[h, w, c]` with `border` rows and columns of zeros on each side.
fn bordered(map: Tensor<3>, border: usize) -> Tensor<3> {
    if border == 0 {
        return map;
    }
    let device = map.device();
    let [height, width, channels] = map.dims();
    let rows = Tensor::<3>::zeros([border, width, channels], &device);
    let map = Tensor::cat(vec![rows.clone(), map, rows], 0);
    let columns = Tensor::<3>::zeros([height + 2 * border, border, channels], &device);
    Tensor::cat(vec![columns.clone(), map, columns], 1)
}
