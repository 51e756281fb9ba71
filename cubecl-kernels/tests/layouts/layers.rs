//! RoIAlign, convolutions and their epilogue, the pyramid's sums and the gradient norm.

use crate::layout::Layout;
use crate::random::Random;
use crate::{bits, boxes, check};
use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor, TensorData, activation};
use mrcnn_kernels::roi_align::RoiAlignOps;
use mrcnn_kernels::{
    PyramidLevel, RoiAlignParams, conv3x3, epilogue::epilogue, partial_sums_of_squares, roi_align,
    sum_each, upsample_add,
};

#[test]
fn pooling_and_its_gradient() {
    let random = &mut Random(7);
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: false,
        zero_padding: false,
        levels: vec![
            PyramidLevel {
                height: 13,
                width: 21,
                offset: 0,
                scale: 0.25,
            },
            PyramidLevel {
                height: 7,
                width: 11,
                offset: 273,
                scale: 0.125,
            },
        ],
    };
    for channels in [5, 12] {
        let (images, count, cells) = (2, 19, params.cells());
        let pyramid = random.values(images * cells * channels);
        let grad = random.values(count * channels * 49);
        let rois: Vec<f32> = boxes(random, count)
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|bbox| {
                let [image, level] = [0; 2].map(|_| random.below(2) as f32);
                [[image, level].as_slice(), bbox.as_slice()].concat()
            })
            .collect();
        check(|layout, device| {
            let rois = || layout.float(&rois, [count, 6], device);
            let pyramid = layout.float(&pyramid, [images * cells, channels], device);
            let grad = layout.float(&grad, [count, channels, 7, 7], device);
            let records = <Dispatch as RoiAlignOps>::roi_records(
                rois().into_dispatch(),
                params.clone(),
                images,
            );
            let gradient = <Dispatch as RoiAlignOps>::roi_align_backward(
                grad.into_dispatch(),
                records,
                params.clone(),
                images,
            );
            let gradient = Tensor::<2>::from_dispatch(gradient);
            [bits(roi_align(pyramid, rois(), &params)), bits(gradient)].concat()
        });
    }
}

/// Whole numbers, whose sums are exact, as different layouts may take different kernels.
#[test]
fn convolution_and_its_gradients() {
    let random = &mut Random(8);
    for (c, o, stride, relu) in [(5, 3, 1, true), (4, 8, 2, false), (8, 12, 1, false)] {
        let (n, h, w) = (2, 9, 11);
        let mut whole =
            |count: usize| -> Vec<f32> { (0..count).map(|_| random.whole(3)).collect() };
        let (x, weight, bias) = (whole(n * c * h * w), whole(o * c * 9), whole(o));
        let output = [n, o, h.div_ceil(stride), w.div_ceil(stride)];
        let grad = whole(output.iter().product());
        check(|layout, device| {
            let device = &device.clone().autodiff();
            let x = layout.float(&x, [n, c, h, w], device).require_grad();
            let weight = layout.float(&weight, [o, c, 3, 3], device).require_grad();
            let bias = layout.float(&bias, [o], device).require_grad();
            let grad = layout.float(&grad, output, device);
            let found = conv3x3(x.clone(), weight.clone(), Some(bias.clone()), stride, relu);
            let gradients = (found.clone() * grad).sum().backward();
            // Adding zero turns -0 into +0.
            let gradient = |found: Option<Vec<f32>>| -> Vec<u32> {
                let found = found.expect("a gradient");
                found.into_iter().map(|v| (v + 0.0).to_bits()).collect()
            };
            let floats = |data: burn::tensor::TensorData| data.iter::<f32>().collect::<Vec<f32>>();
            [
                gradient(Some(floats(found.inner().into_data()))),
                gradient(x.grad(&gradients).map(|g| floats(g.into_data()))),
                gradient(weight.grad(&gradients).map(|g| floats(g.into_data()))),
                gradient(bias.grad(&gradients).map(|g| floats(g.into_data()))),
            ]
            .concat()
        });
    }
}

/// Whole numbers, whose sums are exact, so that the gradients of dense inputs can be compared with those of Burn's
/// operations.
#[test]
fn epilogue_and_its_gradients() {
    let random = &mut Random(9);
    for (c, has_residual, relu) in [(5, false, true), (8, true, true), (12, true, false)] {
        let shape = [2, c, 9, 11];
        let mut whole =
            |count: usize| -> Vec<f32> { (0..count).map(|_| random.whole(3)).collect() };
        let count = shape.iter().product();
        let (x, residual, grad) = (whole(count), whole(count), whole(count));
        let bias = whole(c);
        let run = |layout: Layout, device: &Device, by_burn: bool| {
            let device = &device.clone().autodiff();
            let x = layout.float(&x, shape, device).require_grad();
            let bias = layout.float(&bias, [c], device).require_grad();
            let residual = layout.float(&residual, shape, device).require_grad();
            let used = has_residual.then(|| residual.clone());
            let found = match by_burn {
                false => epilogue(x.clone(), bias.clone(), used, relu),
                true => {
                    let mut sum = x.clone() + bias.clone().reshape([1, c, 1, 1]);
                    if let Some(residual) = used {
                        sum = sum + residual;
                    }
                    if relu { activation::relu(sum) } else { sum }
                }
            };
            let grad = layout.float(&grad, shape, device);
            let gradients = (found.clone() * grad).sum().backward();
            // Adding zero turns -0 into +0.
            let floats = |data: TensorData| -> Vec<u32> {
                data.iter::<f32>().map(|v| (v + 0.0).to_bits()).collect()
            };
            let mut all = floats(found.inner().into_data());
            all.extend(floats(x.grad(&gradients).expect("of x").into_data()));
            all.extend(floats(
                bias.grad(&gradients).expect("of the bias").into_data(),
            ));
            if has_residual {
                let gradient = residual.grad(&gradients).expect("of the residual");
                all.extend(floats(gradient.into_data()));
            }
            all
        };
        check(|layout, device| {
            let found = run(layout, device, false);
            assert!(
                found == run(layout, device, true),
                "{layout:?} on {device:?}"
            );
            found
        });
    }
}

/// Whole numbers; the CPU's kernels are compared with Burn's operations in another test.
#[test]
fn upsampling_and_its_gradients() {
    let random = &mut Random(10);
    for [n, c, h, w] in [[2usize, 5, 9, 11], [1, 8, 8, 6], [2, 12, 7, 4]] {
        let halved = [n, c, h.div_ceil(2), w.div_ceil(2)];
        let mut whole = |shape: [usize; 4]| -> Vec<f32> {
            let count = shape.iter().product();
            (0..count).map(|_| random.whole(9)).collect()
        };
        let (lateral, grad) = (whole([n, c, h, w]), whole([n, c, h, w]));
        let top = whole(halved);
        let run = |layout: Layout, device: &Device| {
            let device = &device.clone().autodiff();
            let lateral = layout.float(&lateral, [n, c, h, w], device).require_grad();
            let top = layout.float(&top, halved, device).require_grad();
            let sum = upsample_add(lateral.clone(), top.clone());
            let grad = layout.float(&grad, [n, c, h, w], device);
            let gradients = (sum.clone() * grad).sum().backward();
            [
                bits(sum.inner() + 0.0),
                bits(lateral.grad(&gradients).expect("of the lateral") + 0.0),
                bits(top.grad(&gradients).expect("of the top") + 0.0),
            ]
            .concat()
        };
        let on_cpu = run(Layout::Dense, &Device::flex());
        check(|layout, device| {
            let found = run(layout, device);
            assert!(found == on_cpu, "{layout:?} on {device:?}");
            found
        });
    }
}

/// Whole numbers, so that the sum is exact in any order; lengths around that of a cube.
#[test]
fn sums_of_squares() {
    let random = &mut Random(11);
    let lengths = [1, 3, 255, 256, 257, 40_000, 2, 5, 17];
    let values =
        lengths.map(|length| -> Vec<f32> { (0..length).map(|_| random.whole(3)).collect() });
    for count in 1..=lengths.len() {
        let wanted: f32 = values[..count].iter().flatten().map(|v| 4.0 * v * v).sum();
        check(|layout, device| {
            let tensors: Vec<Tensor<1>> = values[..count]
                .iter()
                .map(|values| layout.float(values, [values.len()], device))
                .collect();
            let squares = partial_sums_of_squares(&tensors, 2.0).expect("there are tensors");
            let sum = bits(sum_each(&[squares]));
            assert_eq!(
                f32::from_bits(sum[0]),
                wanted,
                "{count} tensors on {device:?}"
            );
            sum
        });
    }
}
