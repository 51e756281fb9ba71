//! 2-D convolution with bias, residual and ReLU.

#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "flex")]
mod cpu_autodiff;
#[cfg(feature = "flex")]
pub(crate) mod flex;
#[cfg(feature = "flex")]
mod grouped;
mod params;

#[cfg(feature = "flex")]
pub use cpu::CpuConvOps;
// For the benchmark of the gradients one by one.
#[cfg(feature = "flex")]
#[doc(hidden)]
pub use flex::{input_gradient, weight_gradient};

pub use params::ConvParams;

use crate::capability::multiplies_on_matrix_units;
use crate::conv1x1::{conv1x1, convolve_by_product};
use crate::conv3x3::conv3x3_linked;
use crate::dtype::{to_dtype_of, to_f32};
use crate::epilogue::epilogue;
use crate::links::Links;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{FloatDType, Tensor, activation, module};

/// Convolution with an odd square kernel, padded by half of it, on any device: `[n, o, h', w']`,
/// where `h'` is `ceil(h / stride)`.
///
/// * `x` - `[n, c, h, w]`.
/// * `params` - the weights are `[o, c / groups, k, k]`: with fewer input channels than `x`, groups of channels are
///   convolved separately.
/// * `residual` - added after the bias, `[n, o, h', w']`, of the dtype of `x`.
/// * `relu` - whether `max(., 0)` is applied last.
///
/// Equals `conv2d` of torch in the dtype of `x`, and is differentiable in all tensors. On the CPU it is one pass over the
/// output, computed in f32 and rounded once to the dtype of `x`, with parameters rounded to that dtype first; results do
/// not depend on the number of threads. On GPUs it is a matrix product for 1x1 kernels (where Burn's convolution is slow
/// or wrong), [`conv3x3`](fn@crate::conv3x3) for 3x3 kernels without groups, and otherwise Burn's own convolution, in
/// f32. Bias, residual and ReLU of a 1x1 kernel are part of the matrix product on devices with matrix units, and one pass
/// over the output of other matrix products.
///
/// # Panics
///
/// If the shapes do not match; on the CPU also if `residual` has another dtype than `x`.
pub fn conv2d(
    x: Tensor<4>,
    params: ConvParams,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    conv2d_linked(x, params, residual, relu, Links::default())
}

/// [`conv2d`] whose gradient applies the masks of ReLUs as specified by `links`. Links other than the default need a
/// device that [has links](crate::has_links).
///
/// # Panics
///
/// As [`conv2d`], and if `links` are not the default and the convolution has a residual, groups, a kernel of another
/// size than 1x1 or 3x3, or a 1x1 kernel with a stride or without a bias.
pub fn conv2d_linked(
    x: Tensor<4>,
    params: ConvParams,
    residual: Option<Tensor<4>>,
    relu: bool,
    links: Links,
) -> Tensor<4> {
    let groups = groups(&x, &params.weight);
    #[cfg(feature = "flex")]
    if links == Links::default() && cpu::supports(&x, &params.weight) {
        return cpu::conv2d(x, params, residual, relu);
    }
    let ConvParams {
        weight,
        bias,
        stride,
        ..
    } = params.fold_scale();
    let bias = bias.map(|bias| to_dtype_of(bias, &x));
    let side = weight.dims()[2];
    let is_fused = (side, groups) == (1, 1) && multiplies_on_matrix_units(&x.device(), x.dtype());
    let bias = match bias {
        Some(bias) if is_fused => {
            return conv1x1(x, weight, bias, residual, stride, relu, links);
        }
        bias => bias,
    };
    let is_linked = links != Links::default();
    if (side, groups) == (1, 1)
        && !is_linked
        && let Some(output) = convolve_by_product(&x, &weight, stride)
    {
        return match bias {
            Some(bias) => epilogue(output, bias, residual, relu),
            None => finish(output, residual, relu),
        };
    }
    if side == 3 && groups == 1 {
        let weight = to_dtype_of(weight, &x);
        let early = relu && residual.is_none();
        assert!(
            !is_linked || residual.is_none(),
            "conv2d: with a residual, masks are applied by the ReLUs"
        );
        let output = conv3x3_linked(x, weight, bias, stride, early, links);
        return finish(output, residual, relu && !early);
    }
    assert!(
        !is_linked,
        "conv2d: this convolution does not mask gradients in its kernels"
    );
    let options = ConvOptions::new([stride; 2], [side / 2; 2], [1, 1], groups);
    // Burn's direct kernel sums in the dtype of its input; see `conv_dtype`.
    let output = module::conv2d(to_f32(x.clone()), to_f32(weight), bias.map(to_f32), options);
    finish(to_dtype_of(output, &x), residual, relu)
}

/// Dtype in which [`conv2d`] computes on GPUs for activations of `dtype`, with square kernels of side `kernel`: f32
/// where it is Burn's own convolution.
pub fn conv_dtype(kernel: usize, groups: usize, dtype: FloatDType) -> FloatDType {
    match (kernel, groups) {
        (1 | 3, 1) => dtype,
        _ => FloatDType::F32,
    }
}

/// Number of groups of a convolution.
fn groups(x: &Tensor<4>, weight: &Tensor<4>) -> usize {
    let (channels, [outputs, inputs, ..]) = (x.dims()[1], weight.dims());
    let groups = channels / inputs.max(1);
    assert!(
        groups * inputs == channels && outputs.is_multiple_of(groups.max(1)),
        "conv2d: the channels of the weight must divide those of x into groups that divide the outputs"
    );
    groups
}

fn finish(output: Tensor<4>, residual: Option<Tensor<4>>, relu: bool) -> Tensor<4> {
    let output = match residual {
        Some(residual) => output + residual,
        None => output,
    };
    if relu {
        activation::relu(output)
    } else {
        output
    }
}
