//! The choice between the project's own kernels, those with matrix units, and Burn's.

use super::channel_sums::can_sum;
use super::fused::Pass;
use super::own::{forward, input_gradient, weight_gradient};
use super::product;
use super::tuned::tuned;
use super::{Conv3x3Ops, separate_gradients};
use crate::capability::has_matrix_units;
use crate::epilogue::EpilogueOps;
use crate::epilogue::cube::add;
use crate::fused_product::Epilogue;
use crate::launch::channels_last;
use crate::launches::{Problem, problem};
use crate::links::Links;
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn::tensor::ops::ConvOptions;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

impl Conv3x3Ops for CubeBackend {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
        _links: Links,
    ) -> FloatTensor<Self> {
        let _problem = named("output", &x, &weight, stride);
        match choice(&x, &weight) {
            Choice::Own => forward(x, weight, Some(bias), stride, relu),
            // CubeK stages a bias as a whole tile of sums in shared memory, which leaves too little shared memory
            // for the candidates with tensor cores (cubek 0.3.1). So the bias is part of the epilogue.
            Choice::Tuned => {
                let [n, _, h, w] = x.meta.shape().dims();
                let [o, ..] = weight.meta.shape().dims::<4>();
                let result = [n, o, h.div_ceil(stride), w.div_ceil(stride)];
                let epilogue = Epilogue {
                    bias: Some(bias),
                    relu,
                    ..Default::default()
                };
                tuned(Pass::Forward, [x, weight], stride, result, epilogue)
            }
            Choice::Burn => {
                let output = Self::conv2d(x, weight, None, options(stride));
                add(output, bias, None, relu)
            }
        }
    }

    fn conv3x3_input_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
        is_rectified: bool,
    ) -> FloatTensor<Self> {
        let _problem = named("gradient of the input", &x, &weight, stride);
        let shape = x.meta.shape().dims();
        let choice = choice(&x, &weight);
        if let Choice::Tuned = choice {
            let epilogue = Epilogue {
                rectified: is_rectified.then(|| channels_last(x)),
                ..Default::default()
            };
            return tuned(Pass::InputGradient, [grad, weight], stride, shape, epilogue);
        }
        let rectified = is_rectified.then(|| x.clone());
        let gradient = match choice {
            Choice::Own => input_gradient(shape, weight, grad, stride),
            _ => Self::conv2d_x_backward(x, weight, grad, options(stride)),
        };
        match rectified {
            Some(output) => Self::rectified_gradient(output, gradient),
            None => gradient,
        }
    }

    fn conv3x3_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let _problem = named("gradient of the weights", &x, &weight, stride);
        if is_product(&x, &weight, &grad) {
            return product::weight_gradient(x, grad, stride);
        }
        match choice(&x, &weight) {
            // CubeK's implicit GEMMs are not used: their gradients of weights are wrong for some numbers of channels,
            // also in TF32 (cubek 0.3.1, executed in the rig of tests/cuda, not on a GPU).
            Choice::Own | Choice::Tuned => weight_gradient(x, grad, stride),
            Choice::Burn => Self::conv2d_weight_backward(x, weight, grad, options(stride)),
        }
    }

    fn conv3x3_parameter_gradients(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _problem = named("gradients of the parameters", &x, &weight, stride);
        let outputs = weight.meta.shape()[0];
        match is_product(&x, &weight, &grad) && can_sum(outputs) {
            true => product::parameter_gradients(x, grad, stride),
            false => separate_gradients::<Self>(x, weight, grad, stride),
        }
    }
}

/// The same convolution for Burn's `conv2d`.
fn options(stride: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [1, 1], [1, 1], 1)
}

/// Names the launches of `pass`.
fn named(pass: &str, x: &CubeTensor, weight: &CubeTensor, stride: usize) -> Problem {
    problem(|| {
        let [n, c, h, w] = x.meta.shape().dims();
        let [o, ..] = weight.meta.shape().dims::<4>();
        format!("3x3 {c} to {o}, stride {stride}, {pass}, input {n}x{h}x{w}")
    })
}

/// Whether the gradient of the weights is a matrix product.
fn is_product(x: &CubeTensor, weight: &CubeTensor, grad: &CubeTensor) -> bool {
    let [o, c, ..] = weight.meta.shape().dims::<4>();
    let [n, _, rows, columns] = grad.meta.shape().dims::<4>();
    let has_support = product::supports([c, o], n * rows * columns);
    has_support && matches!(choice(x, weight), Choice::Tuned)
}

/// The kernels of a convolution.
enum Choice {
    /// The kernels of `own`.
    Own,
    /// Kernels with matrix units: the fastest of those of `own` and CubeK's for the output and the gradient of the
    /// input; `product`, or `own` for small sizes, for the gradient of the weights.
    Tuned,
    /// Burn's selection, for sizes and dtypes that the project's kernels do not support.
    Burn,
}

fn choice(x: &CubeTensor, weight: &CubeTensor) -> Choice {
    let [n, c, h, w] = x.meta.shape().dims();
    let [o, ..] = weight.meta.shape().dims::<4>();
    let indexed = [n * c * h * w, n * o * h * w, 9 * (c + 64) * (o + 64)];
    let is_supported = matches!(x.dtype, DType::F32 | DType::F16 | DType::BF16);
    match is_supported && indexed.iter().all(|&len| 0 < len && len < 1 << 31) {
        false => Choice::Burn,
        true if has_matrix_units(&x.client, x.dtype) => Choice::Tuned,
        true => Choice::Own,
    }
}
