use super::bottleneck;
use crate::Links;
use crate::conv::{ConvParams, conv2d};
use crate::conv1x1::conv1x1;
use burn::tensor::{Device, Tensor, TensorData};

const CHANNELS: usize = 16;
const WIDTH: usize = 8;

/// Sparse whole numbers, so that every sum is exact in f32, and in TF32 as an operand of the next product.
fn tensor<const D: usize>(shape: [usize; D], seed: usize, device: &Device) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|i: usize| match (i * 7919 + seed * 31) % 23 {
        0 | 7 => 1.0,
        13 | 19 => -1.0,
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

/// The block as separate convolutions.
fn by_parts(x: Tensor<4>, convs: [ConvParams; 3], projection: Option<ConvParams>) -> Tensor<4> {
    let [first, second, third] = convs;
    let shortcut = match projection {
        Some(projection) => conv2d(x.clone(), projection, None, false),
        None => x.clone(),
    };
    let x = conv2d(x, first, None, true);
    conv2d(conv2d(x, second, None, true), third, Some(shortcut), true)
}

/// A 1x1 convolution.
fn conv([outputs, inputs]: [usize; 2], seed: usize, device: &Device) -> ConvParams {
    ConvParams {
        weight: tensor([outputs, inputs, 1, 1], seed, device).require_grad(),
        scale: None,
        bias: Some(tensor([outputs], seed + 50, device).require_grad()),
        stride: 1,
    }
}

/// Outputs of two blocks after a ReLU, and the gradients of the input and of all weights and biases. Lateral
/// convolutions also use the input of the first block and the output of the second, as in a feature pyramid.
fn stage(device: &Device, stride: usize, as_one: bool, is_linked: bool) -> Vec<Vec<f32>> {
    let x = tensor([2, 12, 9, 7], 9, device).require_grad();
    let (start, blocks) = (
        conv([12, 12], 3, device),
        [
            convs(12, stride, 10, device),
            convs(CHANNELS, 1, 20, device),
        ],
    );
    let laterals = [conv([8, 12], 4, device), conv([8, CHANNELS], 5, device)];
    let links = Links {
        masks_input: is_linked,
        output_is_masked: is_linked,
    };
    let first = Links {
        masks_input: false,
        ..links
    };
    let last = Links {
        output_is_masked: false,
        ..links
    };
    let plain = |x: Tensor<4>, conv: &ConvParams, relu, links| {
        let bias = conv.bias.clone().expect("a bias");
        conv1x1(x, conv.weight.clone(), bias, None, 1, relu, links)
    };
    let mut y = plain(x.clone(), &start, true, first);
    let mut found = vec![plain(y.clone(), &laterals[0], false, last)];
    for (index, block) in blocks.iter().enumerate() {
        let [first, second, third, projection] = block.clone();
        let projection = (index == 0).then_some(projection);
        let convs = [first, second, third];
        y = match as_one {
            true => bottleneck(y, convs, projection, links),
            false => by_parts(y, convs, projection),
        };
    }
    found.push(plain(y, &laterals[1], false, last));
    let losses = found
        .iter()
        .map(|y| (y.clone() * tensor(y.dims(), 8, device)).sum());
    let gradients = (losses.reduce(|sum, loss| sum + loss).expect("two")).backward();
    found.push(x.grad(&gradients).map(Tensor::from_inner).expect("tracked"));
    let floats = |data: TensorData| data.convert::<f32>().try_into_vec().expect("f32");
    let mut found: Vec<_> = found.into_iter().map(|y| floats(y.into_data())).collect();
    // Only the first block has a projection.
    let [mut all, mut second] = blocks.map(Vec::from);
    second.pop();
    all.extend(second);
    for conv in all.into_iter().chain([start]).chain(laterals) {
        let weight = conv.weight.grad(&gradients).expect("tracked");
        found.push(floats(weight.into_data()));
        let bias = conv.bias.and_then(|bias| bias.grad(&gradients));
        found.push(floats(bias.expect("tracked").into_data()));
    }
    found
}

fn assert_same(device: &Device) {
    for stride in [1, 2] {
        let expected = stage(&Device::flex().autodiff(), stride, false, false);
        let is_zero = |values: &Vec<f32>| values.iter().all(|&value| value == 0.0);
        assert!(!expected.iter().any(is_zero), "a case without a signal");
        for is_linked in [false, true] {
            let found = stage(device, stride, true, is_linked);
            for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_eq!(
                    found, expected,
                    "tensor {place}, stride {stride}, linked: {is_linked}"
                );
            }
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
