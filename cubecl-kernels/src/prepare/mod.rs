//! Parameters as kernels read them: in the dtype of the activations, channels-last, frozen batch norms folded. On GPUs
//! one launch prepares many parameters; one by one, each convolution would launch three or four kernels for its
//! weights.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
mod norms;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod restore;

pub use autodiff::adopt;
pub use norms::{Folded, FrozenNorms};

use crate::tensor_list::TensorList;
use burn::backend::Dispatch;
use burn::tensor::{Device, FloatDType, Tensor};

/// Whether parameters on `device` are prepared: it is a GPU that can bind the buffers of a convolution with its norm,
/// which are more than WebGPU guarantees.
pub fn can_prepare_weights(device: &Device) -> bool {
    let device = device.clone().inner();
    match device.as_dispatch() {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        burn::backend::DispatchDevice::Cube(device) => {
            crate::multi_tensor::can_bind(&device.client(), cube::FOLD_BINDINGS)
        }
        _ => false,
    }
}

/// Folds norms into the weights `[o, c, k, k]` of convolutions, f32; the results are in `dtype`, see [`Folded`].
/// Without a graph; see [`adopt`].
///
/// # Panics
///
/// If [`can_prepare_weights`] is false for the device, the numbers or shapes of the tensors do not match, or a tensor
/// is not f32.
pub fn fold_norms(weights: TensorList<Dispatch>, norms: FrozenNorms, dtype: FloatDType) -> Folded {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return cube::fold(weights, norms, dtype);
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    {
        let _ = (weights, norms, dtype);
        panic!("fold_norms: built without GPU kernels; enable the feature wgpu or cuda");
    }
}

/// Gradients of parameters, flat and f32, from those of their prepared versions; in order.
///
/// * `gradients` - in any shape and layout; f32, f16 or bf16.
/// * `scales` - `[o]` for parameters `[o, ..]` whose norm was folded, see [`Folded::scales`].
///
/// # Panics
///
/// If [`can_prepare_weights`] is false for the device, the numbers of gradients and scales differ, a scale does not
/// have one element per output, or a gradient has another dtype.
pub fn restore_gradients(
    gradients: TensorList<Dispatch>,
    scales: Vec<Option<Tensor<1>>>,
) -> TensorList<Dispatch> {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return cube::restore(gradients, scales);
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    panic!(
        "there are no kernels for {} gradients",
        gradients.0.len() + scales.len()
    );
}

/// Parameters of any shape, f32, as `dtype`; those with four dimensions channels-last. Without a graph; see [`adopt`].
///
/// # Panics
///
/// If [`can_prepare_weights`] is false for the device, or a parameter is not f32.
pub fn cast_weights(weights: TensorList<Dispatch>, dtype: FloatDType) -> TensorList<Dispatch> {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return cube::cast(weights, dtype);
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    {
        let _ = (weights, dtype);
        panic!("cast_weights: built without GPU kernels; enable the feature wgpu or cuda");
    }
}

#[cfg(all(test, feature = "flex", any(feature = "wgpu", feature = "cuda")))]
mod tests;
