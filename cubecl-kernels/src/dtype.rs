//! Conversion of dtypes.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{DType, FloatDType, Tensor};

/// The tensor as f32, the dtype of selection in every precision.
pub(crate) fn to_f32<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F32 => tensor,
        _ => tensor.cast(FloatDType::F32),
    }
}

/// `tensor` in the dtype of `x`.
pub(crate) fn to_dtype_of<const D: usize, const E: usize>(
    tensor: Tensor<D>,
    x: &Tensor<E>,
) -> Tensor<D> {
    if tensor.dtype() == x.dtype() {
        return tensor;
    }
    tensor.cast(FloatDType::from(x.dtype()))
}

/// A backend's tensor in `dtype`.
pub(crate) fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    match tensor.dtype() == dtype {
        true => tensor,
        false => B::float_cast(tensor, FloatDType::from(dtype)),
    }
}
