//! The choice between this module's kernels, those with matrix units, and Burn's.

use super::own::{forward, input_gradient, weight_gradient};
use super::product;
use super::tuned::{Pass, tuned};
use super::{Conv3x3Ops, options};
use crate::capability::has_matrix_units;
use crate::epilogue::cube::add;
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

impl Conv3x3Ops for CubeBackend {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        match choice(&x, &weight) {
            Choice::Own => forward(x, weight, Some(bias), stride, relu),
            // CubeK stages a bias as a whole tile of sums in shared memory, which leaves too little shared memory
            // for the candidates with tensor cores (cubek 0.3.1). So the bias is added afterwards.
            Choice::Tuned => {
                let [n, _, h, w] = x.meta.shape().dims();
                let [o, ..] = weight.meta.shape().dims::<4>();
                let result = [n, o, h.div_ceil(stride), w.div_ceil(stride)];
                let output = tuned(Pass::Forward, [x, weight], stride, result);
                add(output, bias, None, relu)
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
    ) -> FloatTensor<Self> {
        let shape = x.meta.shape().dims();
        match choice(&x, &weight) {
            Choice::Own => input_gradient(shape, weight, grad, stride),
            Choice::Tuned => tuned(Pass::InputGradient, [grad, weight], stride, shape),
            Choice::Burn => Self::conv2d_x_backward(x, weight, grad, options(stride)),
        }
    }

    fn conv3x3_weight_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let [o, c, ..] = weight.meta.shape().dims::<4>();
        let [n, _, rows, columns] = grad.meta.shape().dims::<4>();
        let pixels = n * rows * columns;
        match choice(&x, &weight) {
            // Not by CubeK's implicit GEMMs, which give wrong gradients of weights for some numbers of channels, also in
            // TF32 (cubek 0.3.1, executed by tests/cuda; no GPU was at hand).
            Choice::Tuned if product::takes([c, o], pixels) => {
                product::weight_gradient(x, grad, stride)
            }
            Choice::Own | Choice::Tuned => weight_gradient(x, grad, stride),
            Choice::Burn => Self::conv2d_weight_backward(x, weight, grad, options(stride)),
        }
    }
}

/// The kernels of a convolution.
enum Choice {
    /// This module's.
    Own,
    /// The fastest of this module's and CubeK's with matrix units.
    Tuned,
    /// Burn's selection, for sizes that this module does not index.
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
