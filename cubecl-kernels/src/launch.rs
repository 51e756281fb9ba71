//! Buffers and element-wise launches, shared by the launches of all kernels.
//!
//! The kernels index their buffers as dense row-major arrays. Burn's tensors need not be dense: CUDA pads
//! the rows of tensors that `empty_device_dtype` and `zeros_client` allocate, slices keep the strides of their
//! source, and permuted or expanded tensors have strides of their own. So every launch takes its buffers
//! from here: [`dense`] makes an input dense, [`empty`] and [`zeros`] allocate dense outputs, and
//! [`buffer`] rejects everything else. `clippy.toml` forbids the other functions in this workspace.

#![allow(
    clippy::disallowed_methods,
    reason = "the only place that may use them, because it checks the layout"
)]

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, zeros_client};
use burn_cubecl::ops::{permute_nchw_to_nhwc, reshape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::zspace::metadata::Metadata;

/// Units per cube of an element-wise launch, the maximum that WebGPU guarantees.
pub(crate) const UNITS: u32 = 256;

/// The tensor with dense rows; a copy if it is padded, permuted or expanded.
pub(crate) fn dense(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// `[n, c, h, w]` -> dense `[n, h, w, c]`. The output of convolutions has this layout already, unless its rows are
/// padded.
pub(crate) fn channels_last(tensor: CubeTensor) -> CubeTensor {
    dense(permute_nchw_to_nhwc(tensor))
}

/// The dense tensor if nothing else refers to it, otherwise a dense copy that may be overwritten.
pub(crate) fn own(tensor: CubeTensor) -> CubeTensor {
    match tensor.can_mut() {
        true => tensor,
        // The rows of Burn's own copy may be padded.
        false => dense(tensor.copy()),
    }
}

/// Channels per load: four if they divide the number of channels.
pub(crate) fn width(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

/// An uninitialized dense tensor on the device of `like`. A tensor without elements gets a buffer of one element:
/// CUDA cannot allocate zero bytes.
pub(crate) fn empty<const D: usize>(
    like: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    let shape = Shape::new(shape);
    if shape.num_elements() > 0 {
        return empty_device_contiguous_dtype(client, device, shape, dtype);
    }
    let one = empty_device_contiguous_dtype(client, device, Shape::new([1]), dtype);
    let nothing = one.handle.offset_end(dtype.size() as u64);
    CubeTensor::new_contiguous(one.client, one.device, shape, nothing, dtype)
}

/// A dense tensor of zeros on the device of `like`.
pub(crate) fn zeros<const D: usize>(
    like: &CubeTensor,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor {
    let elements = shape.iter().product();
    if elements == 0 {
        return empty(like, shape, dtype);
    }
    // A tensor of one dimension has no rows to pad.
    let flat = Shape::new([elements]);
    let zeros = zeros_client(like.client.clone(), like.device.clone(), flat, dtype);
    reshape(zeros, Shape::new(shape))
}

/// The buffer of `tensor` with another shape and other strides.
///
/// # Panics
///
/// If an element would be beyond the buffer.
pub(crate) fn view<const D: usize>(
    tensor: CubeTensor,
    shape: [usize; D],
    strides: [usize; D],
) -> CubeTensor {
    let steps = shape.iter().zip(strides);
    let last: usize = steps
        .map(|(&size, stride)| size.saturating_sub(1) * stride)
        .sum();
    let CubeTensor {
        client,
        handle,
        device,
        dtype,
        ..
    } = tensor;
    assert!(
        last * dtype.size() < handle.size() as usize,
        "a view must be in the buffer: {shape:?}, strides {strides:?}"
    );
    CubeTensor::new(client, handle, Metadata::new(shape, strides), device, dtype)
}

/// The tensor as a buffer argument of a kernel.
///
/// # Panics
///
/// If it is not dense, because the kernel would read and write the wrong elements.
pub(crate) fn buffer(tensor: &CubeTensor) -> BufferArg {
    assert!(
        tensor.is_contiguous(),
        "a kernel's buffer must be dense, not of shape {:?} with strides {:?}",
        tensor.meta.shape(),
        tensor.meta.strides()
    );
    tensor.clone().into_buffer_arg()
}

/// [`buffer`] of `tensor` or, without one, a buffer of `elements` elements of `size` bytes that the kernel does not
/// read: every binding needs its own buffer.
pub(crate) fn buffer_or_unread(
    client: &Client,
    tensor: Option<&CubeTensor>,
    [elements, size]: [usize; 2],
) -> BufferArg {
    match tensor {
        Some(tensor) => buffer(tensor),
        // SAFETY: the buffer has the size of its elements.
        None => unsafe { BufferArg::from_raw_parts(client.empty(elements * size), elements) },
    }
}

/// Number and size of cubes for an element-wise launch of `units` units. The kernel must stop further units.
pub(crate) fn elementwise(on: &CubeTensor, units: usize) -> (CubeCount, CubeDim) {
    elementwise_by(UNITS, on, units)
}

/// As [`elementwise`], with cubes of `size` units.
pub(crate) fn elementwise_by(size: u32, on: &CubeTensor, units: usize) -> (CubeCount, CubeDim) {
    let cube = CubeDim::new_1d(size);
    (calculate_cube_count_elemwise(&on.client, units, cube), cube)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_gpu::{self, whole_numbers};

    /// CUDA refuses to allocate 0 bytes. CubeCL's pools ask for them only where an allocation has a page of its own.
    #[test]
    fn a_tensor_without_elements_has_a_buffer() {
        let Some((selected, device)) = test_gpu::open() else {
            return;
        };
        let like = whole_numbers([1; 4], 1, &device, DType::F32);
        for nothing in [
            empty(&like, [0, 4], DType::F32),
            zeros(&like, [3, 0], DType::F32),
        ] {
            assert_eq!(nothing.meta.num_elements(), 0);
            assert!(nothing.handle.size() > 0, "a buffer of 0 bytes");
        }
        selected.device.sync().expect("the device works");
    }
}
