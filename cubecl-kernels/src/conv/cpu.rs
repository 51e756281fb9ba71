//! CPU convolution as a backend operation.

use super::params::ConvParams;
use crate::dtype::to_dtype_of;
use crate::flex::is_cpu;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Tensor};

/// The convolution as a backend operation; use [`conv2d`](super::conv2d).
#[backend_extension(Flex, Autodiff)]
pub trait CpuConvOps: Backend {
    /// `x [n, c, h, w]`, `weight [o, c / groups, k, k]`, `scale [o]`, `bias [o]` -> `[n, o, h', w']`, computed in f32 and
    /// rounded to the dtype of `x`.
    fn cpu_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// As [`Self::cpu_conv`], with `residual [n, o, h', w']` added before the ReLU.
    fn cpu_conv_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self>;
}

/// Whether the CPU's kernels support this convolution: f32, f16 or bf16 on flex, and an odd square kernel.
pub fn supports(x: &Tensor<4>, weight: &Tensor<4>) -> bool {
    let [_, _, height, width] = weight.dims();
    let is_supported = matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16);
    is_supported && is_cpu(x) && height == width && height % 2 == 1
}

pub fn conv2d(
    x: Tensor<4>,
    params: ConvParams,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let dtype = x.dtype();
    // On GPUs the product, not the weights, is rounded to the dtype of x.
    let params = match dtype {
        DType::F32 => params,
        _ => params.fold_scale(),
    };
    let ConvParams {
        weight,
        scale,
        bias,
        stride,
    } = params;
    let weight = to_dtype_of(weight, &x);
    let [scale, bias] = [scale, bias].map(|it| it.map(|tensor| to_dtype_of(tensor, &x)));
    let ([n, _, h, w], [o, ..]) = (x.dims(), weight.dims());
    assert!(stride > 0, "conv2d: the stride must be 1 or more");
    let scale = scale.unwrap_or_else(|| Tensor::ones([o], &x.device()));
    let bias = bias.unwrap_or_else(|| Tensor::zeros([o], &x.device()));
    assert_eq!(
        scale.dims(),
        [o],
        "conv2d: there must be one scale per output channel"
    );
    assert_eq!(
        bias.dims(),
        [o],
        "conv2d: there must be one bias per output channel"
    );
    let output = [n, o, h.div_ceil(stride), w.div_ceil(stride)];
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let (scale, bias) = (scale.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match residual {
        None => <Dispatch as CpuConvOps>::cpu_conv(x, weight, scale, bias, stride, relu),
        Some(residual) => {
            assert_eq!(
                residual.dims(),
                output,
                "conv2d: the residual must have the shape of the output"
            );
            assert_eq!(
                residual.dtype(),
                dtype,
                "conv2d: the residual must have the dtype of x"
            );
            let residual = residual.into_dispatch();
            <Dispatch as CpuConvOps>::cpu_conv_residual(
                x, weight, scale, bias, residual, stride, relu,
            )
        }
    })
}
