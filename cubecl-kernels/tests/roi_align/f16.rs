//! Pooling of f16 features.

use super::adapter::{Adapter, adapter};
use super::boxes::{WILD, levels, rois};
use super::random::Random;
use super::{cpu_gradient, floats, placed, tensor};
use burn::tensor::{DType, Device, FloatDType, TensorData};
use mrcnn_kernels::roi_align::cpu;
use mrcnn_kernels::{RoiAlignParams, roi_align};

#[test]
fn f16_is_summed_in_f32() {
    let both = |device: &Device| {
        for zero_padding in [false, true] {
            f16_case(device, zero_padding);
        }
    };
    both(&Device::flex());
    let Some(Adapter { device, .. }) = &adapter() else {
        return;
    };
    if device.supports_dtype(DType::F16) {
        both(device);
    } else {
        mrcnn_test_support::skip("the adapter has no f16");
    }
}

fn f16_case(device: &Device, zero_padding: bool) {
    let mut random = Random(4);
    let (channels, count, images) = (8, 100, 2);
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: true,
        zero_padding,
        levels: levels(4),
    };
    let shape = [images * params.cells(), channels];
    let rows = rois(&mut random, count, images, WILD, &params);
    let half = |values: &[f32]| -> Vec<f32> {
        values
            .iter()
            .map(|v| burn::tensor::f16::from_f32(*v).to_f32())
            .collect()
    };
    // Rounded once to 11 bits, plus the error of positions of boxes within 200 cells.
    let check = |found: Vec<f32>, wanted: TensorData, each: f32| {
        for (found, wanted) in found.iter().zip(wanted.iter::<f32>()) {
            let tolerance = wanted.abs() * 2.0f32.powi(-11) + each;
            assert!(
                (found - wanted).abs() <= tolerance,
                "{found} instead of {wanted}"
            );
        }
    };

    let pyramid = half(&random.values(shape.iter().product()));
    let tracked = device.clone().autodiff();
    let cells = tensor(&pyramid, shape, &tracked).require_grad();
    let half_cells = cells.clone().cast(FloatDType::F16);
    let pooled = roi_align(half_cells, tensor(&rows, [count, 6], &tracked), &params);
    assert_eq!(pooled.dtype(), DType::F16);
    check(
        floats(pooled.clone()),
        cpu::forward(&pyramid, [images, channels], &rows, &params).into_data(),
        placed(200.0),
    );

    let grad = half(&random.values(count * channels * 49));
    let weights = tensor(&grad, [count, channels, 7, 7], &tracked).cast(FloatDType::F16);
    let gradients = (pooled * weights).cast(FloatDType::F32).sum().backward();
    let found = floats(cells.grad(&gradients).expect("the cells have a gradient"));
    // A hundred weights of at most 1 per cell.
    check(
        found,
        cpu_gradient(&grad, channels, &rows, &params, images),
        100.0 * placed(200.0),
    );
}
