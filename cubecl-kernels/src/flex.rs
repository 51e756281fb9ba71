//! The tensors of the flex backend: reading them in place, and gradients that several operators share.

use crate::cpu_conv;
use crate::cpu_memory::{contiguous, write};
use crate::dtype::cast;
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;

/// The values of a contiguous f32 tensor, row-major.
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<f32>()[start..start + tensor.layout().num_elements()]
}

/// The values of a contiguous i32 tensor, row-major.
pub(crate) fn integers(tensor: &FlexTensor) -> &[i32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<i32>()[start..start + tensor.layout().num_elements()]
}

/// The shape of a tensor with `D` dimensions.
pub(crate) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    std::array::from_fn(|axis| tensor.layout().shape()[axis])
}

/// The tensors in f32.
pub(crate) fn to_f32<const N: usize>(tensors: [FlexTensor; N]) -> [FlexTensor; N] {
    tensors.map(|tensor| cast::<Flex>(tensor, DType::F32))
}

/// Whether `x` is on the CPU.
pub(crate) fn is_cpu<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether `x` is on the CPU, in f32.
pub(crate) fn is_cpu_f32<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_cpu(x)
}

/// `grad` where `output`, the output of a ReLU, is positive or NaN, and 0 elsewhere.
pub(crate) fn relu_gradient(output: FlexTensor, grad: FlexTensor) -> FlexTensor {
    let output = output.to_contiguous();
    let mut grad = contiguous(grad);
    cpu_conv::mask_by(floats(&output), grad.storage_mut());
    grad
}

/// The gradient of a bias `[c]` from `grad [n, c, h, w]`.
pub(crate) fn bias_gradient(grad: FlexTensor) -> FlexTensor {
    let grad = grad.to_contiguous();
    let [n, c, _, _] = dims(&grad);
    write([c], |sums| {
        cpu_conv::channel_sums(floats(&grad), n, c, sums)
    })
}
