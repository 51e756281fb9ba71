use super::conv1x1;
use crate::conv3x3::conv3x3_linked;
use crate::row_product::{LinearParams, linear, linear_layers};
use crate::{Links, test_gpu};
use burn::tensor::{Device, Tensor, TensorData};

/// Sparse whole numbers, so that every sum is exact in f32, and in TF32 as an operand of the next product.
fn tensor<const D: usize>(shape: [usize; D], seed: usize, device: &Device) -> Tensor<D> {
    let values = (0..shape.iter().product()).map(|i: usize| match (i * 7919 + seed * 31) % 23 {
        0 | 7 => 1.0,
        13 | 19 => -1.0,
        _ => 0.0,
    });
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().expect("f32")
}

const SIZE: [usize; 4] = [2, 8, 5, 6];

/// A chain of a 1x1, a 3x3 and two 1x1 convolutions, with ReLUs after all but the last: its output, and the gradients
/// of its input, of all weights and of all biases.
fn chain(device: &Device, is_linked: bool) -> Vec<Vec<f32>> {
    let [_, channels, ..] = SIZE;
    let x = tensor(SIZE, 1, device).require_grad();
    let layer = |seed: usize, side: usize| {
        let weight = tensor([channels, channels, side, side], seed, device).require_grad();
        (weight, tensor([channels], seed + 40, device).require_grad())
    };
    let layers = [layer(2, 1), layer(3, 3), layer(4, 1), layer(5, 1)];
    let mut y = x.clone();
    for (index, (weight, bias)) in layers.iter().enumerate() {
        let has_relu = index + 1 < layers.len();
        let links = Links {
            masks_input: is_linked && index > 0,
            output_is_masked: is_linked && has_relu,
        };
        let (weight, bias) = (weight.clone(), bias.clone());
        y = match weight.dims()[2] {
            3 => conv3x3_linked(y, weight, Some(bias), 1, has_relu, links),
            _ => conv1x1(y, weight, bias, None, 1, has_relu, links),
        };
    }
    let gradients = (y.clone() * tensor(SIZE, 6, device)).sum().backward();
    let mut found = vec![floats(y), floats(x.grad(&gradients).expect("tracked"))];
    for (weight, bias) in layers {
        found.push(floats(weight.grad(&gradients).expect("tracked")));
        found.push(floats(bias.grad(&gradients).expect("tracked")));
    }
    found
}

/// A strided convolution with a residual: its output and all gradients.
fn with_residual(device: &Device) -> Vec<Vec<f32>> {
    let [_, channels, ..] = SIZE;
    let x = tensor(SIZE, 1, device).require_grad();
    let weight = tensor([16, channels, 1, 1], 2, device).require_grad();
    let bias = tensor([16], 3, device).require_grad();
    let residual = tensor([2, 16, 3, 3], 4, device).require_grad();
    let (added, links) = (Some(residual.clone()), Links::default());
    let y = conv1x1(
        x.clone(),
        weight.clone(),
        bias.clone(),
        added,
        2,
        true,
        links,
    );
    let gradients = (y.clone() * tensor([2, 16, 3, 3], 6, device))
        .sum()
        .backward();
    vec![
        floats(y),
        floats(x.grad(&gradients).expect("tracked")),
        floats(weight.grad(&gradients).expect("tracked")),
        floats(bias.grad(&gradients).expect("tracked")),
        floats(residual.grad(&gradients).expect("tracked")),
    ]
}

/// A fully connected layer: its output and all gradients.
fn fully_connected(device: &Device, relu: bool) -> Vec<Vec<f32>> {
    let x = tensor([37, 24], 1, device).require_grad();
    let weight = tensor([10, 24], 2, device).require_grad();
    let bias = tensor([10], 3, device).require_grad();
    let params = LinearParams {
        weight: weight.clone(),
        bias: bias.clone(),
    };
    let y = linear(x.clone(), params, relu);
    let gradients = (y.clone() * tensor([37, 10], 6, device)).sum().backward();
    vec![
        floats(y),
        floats(x.grad(&gradients).expect("tracked")),
        floats(weight.grad(&gradients).expect("tracked")),
        floats(bias.grad(&gradients).expect("tracked")),
    ]
}

/// A layer with a ReLU before two others, as in a box head: outputs and all gradients.
fn branches(device: &Device, is_linked: bool) -> Vec<Vec<f32>> {
    let x = tensor([37, 24], 1, device).require_grad();
    let layer = |outputs: usize, inputs: usize, seed: usize| LinearParams {
        weight: tensor([outputs, inputs], seed, device).require_grad(),
        bias: tensor([outputs], seed + 40, device).require_grad(),
    };
    let layers = [layer(16, 24, 2), layer(3, 16, 4), layer(10, 16, 5)];
    let [first, branches @ ..] = layers.clone();
    let links = |masks_input: bool| Links {
        masks_input: is_linked && masks_input,
        output_is_masked: is_linked && !masks_input,
    };
    let [hidden] = linear_layers(x.clone(), [first], true, links(false));
    let outputs = linear_layers(hidden, branches, false, links(true));
    let losses = [6, 7].into_iter().zip(&outputs);
    let losses = losses.map(|(seed, y)| (y.clone() * tensor(y.dims(), seed, device)).sum());
    let gradients = (losses.reduce(|sum, loss| sum + loss).expect("two")).backward();
    let mut found = vec![floats(x.grad(&gradients).expect("tracked"))];
    found.extend(outputs.map(floats));
    for LinearParams { weight, bias } in layers {
        found.push(floats(weight.grad(&gradients).expect("tracked")));
        found.push(floats(bias.grad(&gradients).expect("tracked")));
    }
    found
}

fn all(device: &Device, is_linked: bool) -> Vec<Vec<f32>> {
    let mut all = chain(device, is_linked);
    // Links of fully connected layers need kernels.
    let has_kernels = crate::has_links(device, burn::tensor::DType::F32);
    all.extend(branches(device, is_linked && has_kernels));
    all.extend(with_residual(device));
    all.extend(fully_connected(device, false));
    all.extend(fully_connected(device, true));
    all
}

/// The gradients of linked layers are those of layers that are not linked, on every device.
#[test]
fn links_do_not_change_gradients() {
    let cpu = Device::flex().autodiff();
    let expected = all(&cpu, false);
    let is_zero = |values: &Vec<f32>| values.iter().all(|&value| value == 0.0);
    assert!(!expected.iter().any(is_zero), "a case without a signal");
    assert_eq!(all(&cpu, true), expected);
    if let Some((selected, _)) = test_gpu::open() {
        let gpu = selected.device.clone().autodiff();
        for is_linked in [false, true] {
            for (place, (found, expected)) in all(&gpu, is_linked).iter().zip(&expected).enumerate()
            {
                assert_eq!(found, expected, "tensor {place}, linked: {is_linked}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "masks are applied by the ReLUs")]
fn links_with_a_residual_are_refused() {
    let device = Device::flex();
    let x = tensor(SIZE, 1, &device);
    let (weight, bias) = (tensor([8, 8, 1, 1], 2, &device), tensor([8], 3, &device));
    let links = Links {
        masks_input: true,
        output_is_masked: false,
    };
    conv1x1(x.clone(), weight, bias, Some(x), 1, true, links);
}
