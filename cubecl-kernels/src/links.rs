//! How layers share the masks of ReLUs.

use crate::capability::multiplies_on_matrix_units;
use burn::tensor::{DType, Device};

/// Which masks of ReLUs a layer applies. The gradient of a ReLU's output may be masked by each layer that uses it, in the
/// kernel that computes it, instead of once by the ReLU. The default is the latter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The input is the output of a ReLU, and the layer masks the gradient of it.
    pub masks_input: bool,
    /// Everything that uses the layer's output masks the gradient of it.
    pub output_is_masked: bool,
}

/// Whether the convolutions of `device` in `dtype` mask gradients in the kernels that compute them: 1x1 and 3x3
/// convolutions with a bias and without groups, see [`conv2d_linked`](crate::conv2d_linked) and
/// [`bottleneck`](crate::bottleneck).
pub fn has_links(device: &Device, dtype: DType) -> bool {
    multiplies_on_matrix_units(device, dtype)
}
