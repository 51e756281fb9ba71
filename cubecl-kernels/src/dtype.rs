//! Conversion of dtypes for selection.

use burn::tensor::{DType, FloatDType, Tensor};

/// The tensor as f32, the dtype of selection in every precision.
pub(crate) fn to_f32<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F32 => tensor,
        _ => tensor.cast(FloatDType::F32),
    }
}
