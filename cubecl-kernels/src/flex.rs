//! Reading the tensors of the flex backend in place.

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
