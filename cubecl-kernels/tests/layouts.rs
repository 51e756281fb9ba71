//! Every operator with its inputs in every memory layout: padded rows, views into a buffer, permuted and
//! expanded tensors give the same bits as dense ones. The results of dense ones are compared with the CPU
//! versions in the other tests.
//!
//! Row lengths are not multiples of the alignment of rows, so that outputs are padded if the
//! device pads (CUDA).

mod adapter;
mod layout;
mod random;

use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use layout::Layout;
use mrcnn_kernels::roi_align::RoiAlignOps;
use mrcnn_kernels::{
    BitMasks, BoxDecoding, MaskWindow, MatchThresholds, PasteBatch, PasteWindow, PyramidLevel,
    RoiAlignParams, conv3x3, decode_boxes, epilogue::epilogue, mask_targets, match_boxes,
    nms_sorted, paste_masks, roi_align, sampling_scores, sum_of_squares, top_k_segments,
    upsample_add,
};
use random::Random;

/// Runs `run` on the CPU and the adapter, with each layout, and compares it with dense inputs.
fn check(run: impl Fn(Layout, &Device) -> Vec<u32>) {
    let adapter = adapter::adapter();
    let gpu = adapter.iter().map(|adapter| adapter.device.clone());
    for device in std::iter::once(Device::flex()).chain(gpu) {
        let wanted = run(Layout::Dense, &device);
        assert!(!wanted.is_empty());
        for layout in Layout::ALL {
            let found = run(layout, &device);
            let wrong = (0..wanted.len()).find(|&i| found[i] != wanted[i]);
            if let Some(i) = wrong {
                panic!(
                    "{layout:?} on {device:?}: value {i} of {} is {} (bits {:#x}), not {} ({:#x})",
                    wanted.len(),
                    f32::from_bits(found[i]),
                    found[i],
                    f32::from_bits(wanted[i]),
                    wanted[i]
                );
            }
        }
    }
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    tensor.into_data().iter::<f32>().map(f32::to_bits).collect()
}

fn words<const D: usize>(tensor: Tensor<D, Int>) -> Vec<u32> {
    let data = tensor.into_data();
    data.iter::<i32>().map(|value| value as u32).collect()
}

/// Boxes within 200 pixels, of whole numbers.
fn boxes(random: &mut Random, count: usize) -> Vec<f32> {
    let mut draw = || {
        let [x, y, w, h] = [0; 4].map(|_| random.below(100) as f32);
        [x, y, x + w, y + h]
    };
    (0..count).flat_map(|_| draw()).collect()
}

#[test]
fn top_k() {
    let (rows, total, k) = (3, 777, 255);
    let scores = Random(1).values(rows * total);
    check(|layout, device| {
        let scores = layout.float(&scores, [rows, total], device);
        let (best, indices) = top_k_segments(scores, &[0..300, 300..777, 5..5], k);
        [bits(best), words(indices)].concat()
    });
}

#[test]
fn decoding() {
    let random = &mut Random(2);
    let (n, slots, total) = (3, 255, 301);
    let deltas = random.values(n * total * 4);
    let references = boxes(random, n * total);
    let scores = random.values(n * slots);
    let indices: Vec<i32> = (0..n * slots)
        .map(|_| random.below(total + 1) as i32 - 1)
        .collect();
    let sizes = [150.0, 170.0, 90.0, 200.0, 200.0, 33.0];
    let params = BoxDecoding {
        weights: [10.0, 10.0, 5.0, 5.0],
        max_log_scale: 4.0,
        min_size: 1.0,
    };
    check(|layout, device| {
        let (boxes, kept) = decode_boxes(
            layout.float(&deltas, [n, total, 4], device),
            layout.float(&references, [n, total, 4], device),
            layout.float(&scores, [n, slots], device),
            layout.int(&indices, [n, slots], device),
            layout.float(&sizes, [n, 2], device),
            &params,
        );
        [bits(boxes), bits(kept)].concat()
    });
}

#[test]
fn suppression() {
    let random = &mut Random(3);
    let (groups, k) = (5, 255);
    let corners = boxes(random, groups * k);
    let scores: Vec<f32> = (0..groups * k).map(|slot| (k - slot % k) as f32).collect();
    check(|layout, device| {
        let boxes = layout.float(&corners, [groups, k, 4], device);
        bits(nms_sorted(
            boxes,
            layout.float(&scores, [groups, k], device),
            0.5,
        ))
    });
}

#[test]
fn matching_and_sampling() {
    let random = &mut Random(4);
    let (n, total, slots) = (3, 777, 13);
    let (candidates, gt) = (boxes(random, n * total), boxes(random, n * slots));
    let counts = [13, 0, 5];
    let thresholds = MatchThresholds {
        fg_iou: 0.5,
        bg_iou: 0.3,
        allow_low_quality: true,
    };
    check(|layout, device| {
        let matches = match_boxes(
            layout.float(&candidates, [n, total, 4], device),
            layout.float(&gt, [n, slots, 4], device),
            layout.int(&counts, [n], device),
            &thresholds,
        );
        words(matches)
    });
    let matches: Vec<i32> = (0..n * total).map(|_| random.below(5) as i32 - 2).collect();
    check(|layout, device| {
        let matches = layout.int(&matches, [n, total], device);
        bits(sampling_scores(matches, &[1, 2, u64::MAX], device))
    });
}

/// Deltas, references, scores and ground truth that images share, as one expanded tensor.
#[test]
fn expanded_inputs() {
    let random = &mut Random(5);
    let (n, total, slots) = (3, 301, 255);
    let references = boxes(random, total);
    let deltas = random.values(total * 4);
    let scores = random.values(slots);
    let indices: Vec<i32> = (0..n * slots).map(|_| random.below(total) as i32).collect();
    let params = BoxDecoding {
        weights: [1.0; 4],
        max_log_scale: 4.0,
        min_size: 0.0,
    };
    let thresholds = MatchThresholds {
        fg_iou: 0.5,
        bg_iou: 0.5,
        allow_low_quality: true,
    };
    let run = |device: &Device, is_expanded: bool| {
        let shared = |values: &[f32], width: usize| {
            let one = Layout::Dense.float(values, [1, values.len() / width, width], device);
            if is_expanded {
                one.expand([n as i64, -1, -1])
            } else {
                one.repeat_dim(0, n)
            }
        };
        let scores = shared(&scores, 1).reshape([n, slots]);
        let (found, kept) = decode_boxes(
            shared(&deltas, 4),
            shared(&references, 4),
            scores.clone(),
            Layout::Dense.int(&indices, [n, slots], device),
            Layout::Dense.float(&[100.0; 6], [n, 2], device),
            &params,
        );
        let (best, best_indices) = top_k_segments(scores, &[0..slots, 3..200], 77);
        let matches = match_boxes(
            shared(&references, 4),
            shared(&references[..12], 4),
            Layout::Dense.int(&[3, 2, 1], [n], device),
            &thresholds,
        );
        let kept_best = nms_sorted(
            shared(&references, 4),
            shared(&references, 4)
                .slice([0..n, 0..total, 0..1])
                .reshape([n, total]),
            0.5,
        );
        [
            bits(found),
            bits(kept),
            bits(best),
            words(best_indices),
            words(matches),
            bits(kept_best),
        ]
        .concat()
    };
    let adapter = adapter::adapter();
    let gpu = adapter.iter().map(|adapter| adapter.device.clone());
    for device in std::iter::once(Device::flex()).chain(gpu) {
        assert!(run(&device, true) == run(&device, false), "{device:?}");
    }
}

#[test]
fn mask_targets_and_pasting() {
    let random = &mut Random(6);
    let (n, slots, masks, side) = (2, 9, 3, 7);
    let mut table = BitMasks::default();
    for _ in 0..n * masks {
        let window = MaskWindow {
            origin: (5, 7),
            size: (33, 21),
            image: (100, 80),
        };
        let cells: Vec<u8> = (0..33 * 21).map(|_| random.below(2) as u8).collect();
        table.push(window, &cells);
    }
    let rois = boxes(random, n * slots);
    let matched: Vec<i32> = (0..n * slots)
        .map(|_| random.below(masks + 1) as i32 - 1)
        .collect();
    check(|layout, device| {
        bits(mask_targets(
            layout.float(&rois, [n, slots, 4], device),
            layout.int(&matched, [n, slots], device),
            table.upload(n, device),
            side,
        ))
    });
    let windows: Vec<PasteWindow> = boxes(random, 5)
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bbox| PasteWindow::new(*bbox, side, 150, 140))
        .collect();
    let probabilities: Vec<f32> = (0..5 * side * side)
        .map(|_| random.between(0.0, 1.0))
        .collect();
    check(|layout, device| {
        let masks = layout.float(&probabilities, [5, side, side], device);
        let batches = PasteBatch::plan(&windows, PasteBatch::WORDS);
        let pasted = batches
            .iter()
            .flat_map(|batch| words(paste_masks(masks.clone(), batch, 0.5)));
        pasted.collect()
    });
}

#[test]
fn pooling_and_its_gradient() {
    let random = &mut Random(7);
    let params = RoiAlignParams {
        output: [7, 7],
        sampling_ratio: 2,
        aligned: false,
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
            let pyramid = layout.float(&pyramid, [images, cells, channels], device);
            let grad = layout.float(&grad, [count, channels, 7, 7], device);
            let gradient = <Dispatch as RoiAlignOps>::roi_align_backward(
                grad.into_dispatch(),
                rois().into_dispatch(),
                params.clone(),
                images,
            );
            let gradient = Tensor::<3>::from_dispatch(gradient);
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
    for (c, with_residual, relu) in [(5, false, true), (8, true, true), (12, true, false)] {
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
            let used = with_residual.then(|| residual.clone());
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
            if with_residual {
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
            let sum = bits(sum_of_squares(&tensors, 2.0).expect("there are tensors"));
            assert_eq!(
                f32::from_bits(sum[0]),
                wanted,
                "{count} tensors on {device:?}"
            );
            sum
        });
    }
}
