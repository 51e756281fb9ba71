//! Parameters as kernels read them: in the dtype of the activations, channels-last, frozen batch norms folded. On GPUs
//! one launch prepares many parameters; one by one, each convolution would launch three or four kernels for its
//! weights.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod restore;

pub use autodiff::adopt;

use crate::tensor_list::TensorList;
use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{Device, FloatDType, Tensor};

/// Whether parameters on `device` are prepared: it is a GPU that can bind the buffers of a convolution with its norm,
/// which are more than WebGPU guarantees.
pub fn prepares_weights(device: &Device) -> bool {
    let device = device.clone().inner();
    match device.as_dispatch() {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        DispatchDevice::Cube(device) => crate::many::binds(&device.client(), cube::FOLD_BINDINGS),
        _ => false,
    }
}

/// Frozen batch norms, one per convolution: lists of scales, shifts, means and variances, all `[o]` and f32.
#[derive(Debug)]
pub struct FrozenNorms {
    /// Scales.
    pub weights: TensorList<Dispatch>,
    /// Shifts.
    pub biases: TensorList<Dispatch>,
    /// Running means.
    pub means: TensorList<Dispatch>,
    /// Running variances.
    pub vars: TensorList<Dispatch>,
    /// Numbers that are added to the variances.
    pub epsilons: Vec<f64>,
}

/// Convolutions with their norms folded, in the order of the convolutions.
#[derive(Debug)]
pub struct Folded {
    /// `weight * scale`, channels-last, in the dtype that was asked for.
    pub weights: TensorList<Dispatch>,
    /// `bias - mean * scale`, in that dtype.
    pub shifts: TensorList<Dispatch>,
    /// `weight of the norm / sqrt(var + epsilon)`, f32.
    pub scales: TensorList<Dispatch>,
}

/// Folds norms into the weights `[o, c, k, k]` of convolutions, f32. Without a graph; see [`adopt`].
///
/// # Panics
///
/// If the device does not [`prepares_weights`], or the numbers of tensors differ.
pub fn fold_norms(weights: TensorList<Dispatch>, norms: FrozenNorms, dtype: FloatDType) -> Folded {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return cube::fold(weights, norms, dtype);
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    panic!("there are no kernels for {dtype:?}");
}

/// Gradients of parameters, flat and f32, from those of their prepared versions; in order.
///
/// * `gradients` - in any shape, layout and dtype.
/// * `scales` - `[o]` for parameters `[o, ..]` whose norm was folded, see [`Folded::scales`].
///
/// # Panics
///
/// If the device does not [`prepares_weights`], or the numbers differ.
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
/// If the device does not [`prepares_weights`].
pub fn cast_weights(weights: TensorList<Dispatch>, dtype: FloatDType) -> TensorList<Dispatch> {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    return cube::cast(weights, dtype);
    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    panic!("there are no kernels for {dtype:?}");
}

#[cfg(all(test, feature = "flex", any(feature = "wgpu", feature = "cuda")))]
mod tests;
