//! Links between layers, which determine the layer that applies the mask of a ReLU to a gradient.

use crate::capability::multiplies_on_matrix_units;
use burn::tensor::{DType, Device};

/// The masks of ReLUs that a layer applies to gradients. By default the layer with the ReLU masks the gradient of its
/// output in a separate pass. Instead, every layer that uses the output can mask it, in the kernel that computes the
/// gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The input is the output of a ReLU, and the layer masks the gradient of it.
    pub masks_input: bool,
    /// Everything that uses the layer's output masks the gradient of it.
    pub output_is_masked: bool,
}

/// Whether layers on `device` in `dtype` mask gradients in the kernels that compute them: 1x1 convolutions with stride
/// 1 and 3x3 convolutions, with a bias and without groups, see [`conv2d_linked`](crate::conv2d_linked) and
/// [`bottleneck`](crate::bottleneck()), and fully connected layers, see [`linear_layers`](crate::linear_layers).
pub fn has_links(device: &Device, dtype: DType) -> bool {
    multiplies_on_matrix_units(device, dtype)
}
