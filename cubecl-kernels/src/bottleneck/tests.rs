use super::bottleneck;
use crate::Links;
use crate::conv::{ConvParams, conv2d};
use burn::tensor::{Device, Tensor, TensorData};

const CHANNELS: usize = 16;
const WIDTH: usize = 8;

/// Sparse whole numbers, so that every sum is exact in f32, and in TF32 as an operand of the next product.
fn tensor<const D: usize>(shape: [usize; D], seed: usize, device: &Device) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|i: usize| match (i * 7919 + seed * 31) % 41 {
        0 | 7 => 1.0,
        13 | 29 => -1.0,
        _ => 0.0,
    });
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), device)
}

/// The convolutions of a block with `input` channels, then its projection.
fn convs(input: usize, stride: usize, seed: usize, device: &Device) -> [ConvParams; 4] {
    let conv = |index: usize, [o, c, k]: [usize; 3], stride| ConvParams {
        weight: tensor([o, c, k, k], seed + index, device).require_grad(),
        scale: None,
        bias: Some(tensor([o], seed + index + 50, device).require_grad()),
        stride,
    };
    [
        conv(1, [WIDTH, input, 1], 1),
        conv(2, [WIDTH, WIDTH, 3], stride),
        conv(3, [CHANNELS, WIDTH, 1], 1),
        conv(4, [CHANNELS, input, 1], stride),
    ]
}

/// The block by convolutions of their own.
fn by_parts(x: Tensor<4>, convs: [ConvParams; 3], shortcut: Tensor<4>) -> Tensor<4> {
    let [first, second, third] = convs;
    let x = conv2d(x, first, None, true);
    conv2d(conv2d(x, second, None, true), third, Some(shortcut), true)
}

/// Output and gradients of a stage of three blocks: of its input and of all weights and biases.
fn stage(device: &Device, as_one: bool, is_linked: bool) -> Vec<Vec<f32>> {
    let x = tensor([2, 12, 9, 7], 9, device).require_grad();
    let blocks = [
        convs(12, 2, 10, device),
        convs(CHANNELS, 1, 20, device),
        convs(CHANNELS, 1, 30, device),
    ];
    let mut y = x.clone();
    for (index, block) in blocks.iter().enumerate() {
        let [first, second, third, projection] = block.clone();
        let projected = (index == 0).then(|| conv2d(y.clone(), projection, None, false));
        let links = Links {
            masks_input: is_linked && index > 0,
            output_is_masked: is_linked && index + 1 < blocks.len(),
        };
        let convs = [first, second, third];
        y = match as_one {
            true => bottleneck(y, convs, projected, links),
            false => by_parts(y.clone(), convs, projected.unwrap_or(y)),
        };
    }
    let factor = tensor([2, CHANNELS, 5, 4], 8, device);
    let gradients = (y.clone() * factor).sum().backward();
    let floats = |data: TensorData| data.convert::<f32>().try_into_vec().expect("f32");
    let mut found = vec![floats(y.into_data())];
    found.push(floats(x.grad(&gradients).expect("tracked").into_data()));
    for (index, conv) in blocks.into_iter().flatten().enumerate() {
        // Only the first block has a projection.
        if index % 4 == 3 && index > 3 {
            continue;
        }
        let weight = conv.weight.grad(&gradients).expect("tracked");
        found.push(floats(weight.into_data()));
        let bias = conv.bias.and_then(|bias| bias.grad(&gradients));
        found.push(floats(bias.expect("tracked").into_data()));
    }
    found
}

fn assert_same(device: &Device) {
    let expected = stage(&Device::flex().autodiff(), false, false);
    let is_zero = |values: &Vec<f32>| values.iter().all(|&value| value == 0.0);
    assert!(!expected.iter().any(is_zero), "a case without a signal");
    for is_linked in [false, true] {
        for (place, (found, expected)) in stage(device, true, is_linked)
            .iter()
            .zip(&expected)
            .enumerate()
        {
            assert_eq!(found, expected, "tensor {place}, linked: {is_linked}");
        }
    }
}

#[test]
fn a_stage_of_single_operations_is_that_of_convolutions() {
    assert_same(&Device::flex().autodiff());
}

#[test]
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn a_stage_of_single_operations_is_the_same_on_a_gpu() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    assert_same(&selected.device.clone().autodiff());
    selected.device.sync().expect("the device works");
}
