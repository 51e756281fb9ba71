//! Convolutions and fully connected layers: output, input gradient and weight gradient.

use super::case::{Case, Launch};
use super::layers::{ConvLayer, Layers, LinearLayer};
use super::scene::{Scene, uniform};
use crate::config::Config;
use crate::model::bytes_of;
use burn::backend::{Dispatch, ops::ModuleOps};
#[cfg(feature = "flex")]
use burn::backend::{Flex, ops::FloatTensorOps};
use burn::tensor::{Device, FloatDType, Slice, Tensor, ops::ConvOptions};
use mrcnn_kernels::conv3x3::Conv3x3Ops;
use mrcnn_kernels::{ConvParams, conv2d, has_selection_kernels, row_product};

/// Pass of a layer in a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Output,
    InputGradient,
    WeightGradient,
}

const PASSES: [(Pass, &str); 3] = [
    (Pass::Output, "output"),
    (Pass::InputGradient, "input gradient"),
    (Pass::WeightGradient, "weight gradient"),
];

/// Cases of all layers of the network. The gradients of the stem are left out, because most presets freeze it.
pub(super) fn cases(config: &Config, scene: &Scene, dtype: FloatDType) -> Vec<Case> {
    let layers = Layers::of(config, scene);
    let bytes = bytes_of(dtype) as usize;
    let mut cases = Vec::new();
    for (layer, occurrences) in layers.convs {
        for (pass, name) in PASSES {
            let count = match pass {
                Pass::Output => occurrences.outputs,
                _ if layer.sizes[1] == 3 => 0,
                _ => occurrences.gradients,
            };
            if count == 0 {
                continue;
            }
            let kernel = format!("conv {0}x{0}, {name}", layer.kernel);
            let moved = layer.elements().iter().sum::<usize>() * bytes;
            let (problem, flops) = (layer.problem(), layer.flops());
            let prepare = move |device: &Device| conv(layer, pass, dtype, device);
            cases.push(Case::new(kernel, problem, [moved, flops], prepare).of_layers(count));
        }
    }
    for ([rows, input, output], count) in layers.linears {
        for (pass, name) in PASSES {
            let moved = (rows * input + input * output + rows * output) * bytes;
            let (kernel, problem) = (
                format!("linear, {name}"),
                format!("{rows}x{input} to {output}"),
            );
            let flops = 2 * rows * input * output;
            let layer = [rows, input, output];
            let prepare = move |device: &Device| linear(layer, pass, dtype, device);
            cases.push(Case::new(kernel, problem, [moved, flops], prepare).of_layers(count));
        }
    }
    cases
}

/// Uniform random numbers; channels-last, the layout of a convolution's output, on GPUs.
fn random(shape: [usize; 4], dtype: FloatDType, device: &Device) -> Tensor<4> {
    let [n, c, h, w] = shape;
    match has_selection_kernels(device) {
        true => uniform([n, h, w, c], device)
            .cast(dtype)
            .permute([0, 3, 1, 2]),
        false => uniform(shape, device).cast(dtype),
    }
}

fn conv(layer: ConvLayer, pass: Pass, dtype: FloatDType, device: &Device) -> Launch {
    let ConvLayer {
        sizes: [n, c, o, h, w],
        kernel,
        stride,
        groups,
    } = layer;
    let [rows, columns] = layer.output();
    let weight = uniform([o, c / groups, kernel, kernel], device).cast(dtype);
    let x = random([n, c, h, w], dtype, device);
    if pass == Pass::Output {
        let bias = Tensor::<1>::zeros([o], device).cast(dtype);
        return Box::new(move || {
            let params = ConvParams {
                weight: weight.clone(),
                scale: None,
                bias: Some(bias.clone()),
                stride,
            };
            Box::new(conv2d(x.clone(), params, None, true))
        });
    }
    let grad = random([n, o, rows, columns], dtype, device);
    #[cfg(feature = "flex")]
    if !has_selection_kernels(device) {
        return on_cpu(layer, pass, [x, weight, grad]);
    }
    by_operations(layer, pass, [x, weight, grad])
}

/// The gradients as the training step on the CPU computes them: in f32 for every dtype, here without the
/// casts. Their bytes are counted in the dtype.
#[cfg(feature = "flex")]
fn on_cpu(layer: ConvLayer, pass: Pass, tensors: [Tensor<4>; 3]) -> Launch {
    use mrcnn_kernels::conv::{input_gradient, weight_gradient};
    let [x, weight, grad] = tensors.map(|tensor| {
        let data = tensor.cast(FloatDType::F32).into_data();
        Flex::float_from_data(data, &Default::default())
    });
    let ConvLayer {
        sizes: [_, _, _, h, w],
        kernel,
        stride,
        groups,
    } = layer;
    match pass {
        Pass::WeightGradient => Box::new(move || {
            Box::new(weight_gradient(
                x.clone(),
                grad.clone(),
                groups,
                kernel,
                stride,
            ))
        }),
        _ => Box::new(move || {
            let (weight, grad) = (weight.clone(), grad.clone());
            Box::new(input_gradient(weight, None, grad, groups, [h, w], stride))
        }),
    }
}

/// Gradients by the operations of a training step on GPUs: matrix products for 1x1 kernels (without the rows of zeros
/// of `row_product`), the project's operator for 3x3 kernels, Burn's for groups (here in `dtype`, in training in
/// f32).
fn by_operations(layer: ConvLayer, pass: Pass, tensors: [Tensor<4>; 3]) -> Launch {
    if layer.kernel == 1 {
        return by_products(layer, pass, tensors);
    }
    let (stride, groups) = (layer.stride, layer.groups);
    let padding = layer.kernel / 2;
    let options = move || ConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
    let inputs = move || tensors.clone().map(Tensor::into_dispatch);
    let is_ours = layer.kernel == 3 && groups == 1;
    Box::new(move || {
        let [x, weight, grad] = inputs();
        let gradient = match (pass, is_ours) {
            (Pass::WeightGradient, true) => {
                <Dispatch as Conv3x3Ops>::conv3x3_weight_gradient(x, weight, grad, stride)
            }
            (Pass::WeightGradient, false) => {
                Dispatch::conv2d_weight_backward(x, weight, grad, options())
            }
            (_, true) => {
                <Dispatch as Conv3x3Ops>::conv3x3_input_gradient(x, weight, grad, stride, false)
            }
            (_, false) => Dispatch::conv2d_x_backward(x, weight, grad, options()),
        };
        Box::new(Tensor::<4>::from_dispatch(gradient))
    })
}

/// Gradients of a 1x1 convolution as products of matrices of pixels by channels. With a stride, the input gradient
/// has only the pixels that are read.
fn by_products(layer: ConvLayer, pass: Pass, [x, weight, grad]: [Tensor<4>; 3]) -> Launch {
    let [_, c, o, ..] = layer.sizes;
    let pixels = |x: Tensor<4>, channels: usize| {
        let [n, _, h, w] = x.dims();
        x.permute([0, 2, 3, 1]).reshape([n * h * w, channels])
    };
    let strided = Slice::with_step(0, None, layer.stride as isize);
    let x = x.slice([Slice::full(), Slice::full(), strided, strided]);
    let (x, grad) = (pixels(x, c), pixels(grad, o));
    let weight = weight.reshape([o, c]);
    match pass {
        Pass::WeightGradient => {
            Box::new(move || Box::new(grad.clone().transpose().matmul(x.clone())))
        }
        _ => Box::new(move || Box::new(grad.clone().matmul(weight.clone()))),
    }
}

fn linear(layer: LinearLayer, pass: Pass, dtype: FloatDType, device: &Device) -> Launch {
    let [rows, input, output] = layer;
    let random = |shape: [usize; 2]| uniform(shape, device).cast(dtype);
    let (x, weight) = (random([rows, input]), random([output, input]));
    let grad = random([rows, output]);
    match pass {
        Pass::Output => Box::new(move || Box::new(row_product(x.clone(), weight.clone()))),
        Pass::InputGradient => Box::new(move || Box::new(grad.clone().matmul(weight.clone()))),
        Pass::WeightGradient => {
            Box::new(move || Box::new(grad.clone().transpose().matmul(x.clone())))
        }
    }
}
