//! Kernels of the epilogue: one pass over the output of a convolution, which is channels-last.

use super::EpilogueOps;
use crate::launch::{buffer, buffer_or_unread, channels_last, dense, elementwise, own, width};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// `max(., 0)`; NaN stays NaN.
#[cube]
pub(crate) fn rectified<N: Size>(values: Vector<f32, N>) -> Vector<f32, N> {
    let mut result = values;
    #[unroll]
    for lane in 0..N::value().comptime() {
        let one = values.extract(lane);
        result.insert(lane, select(one < 0.0f32, 0.0f32, one));
    }
    result
}

/// `values` where `output` is above 0 or NaN, otherwise 0.
#[cube]
pub(crate) fn masked<N: Size>(values: Vector<f32, N>, output: Vector<f32, N>) -> Vector<f32, N> {
    let mut result = values;
    #[unroll]
    for lane in 0..N::value().comptime() {
        let one = values.extract(lane);
        result.insert(lane, select(output.extract(lane) <= 0.0f32, 0.0f32, one));
    }
    result
}

/// Adds `bias [c]` and, if `has_residual`, `residual [pixels, c]` to `output [pixels, c]` in place, then applies
/// `max(., 0)` if `relu`; NaN stays NaN. Sums are f32.
///
/// `vectors` is the number of vectors per pixel, `units` that of all pixels.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_to_pixels<E: Float, N: Size>(
    output: &mut [Vector<E, N>],
    bias: &[Vector<E, N>],
    residual: &[Vector<E, N>],
    vectors: usize,
    units: usize,
    #[comptime] has_residual: bool,
    #[comptime] relu: bool,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let mut sum = Vector::<f32, N>::cast_from(output[ABSOLUTE_POS])
        + Vector::<f32, N>::cast_from(bias[ABSOLUTE_POS % vectors]);
    if comptime!(has_residual) {
        sum += Vector::<f32, N>::cast_from(residual[ABSOLUTE_POS]);
    }
    if comptime!(relu) {
        sum = rectified::<N>(sum);
    }
    output[ABSOLUTE_POS] = Vector::cast_from(sum);
}

/// `grad` where `output` is above 0 or NaN, otherwise 0, in place in `grad`.
#[cube(launch_unchecked, address_type = "dynamic")]
fn mask_by_output<E: Float, N: Size>(
    output: &[Vector<E, N>],
    grad: &mut [Vector<E, N>],
    units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let value = Vector::<f32, N>::cast_from(grad[ABSOLUTE_POS]);
    let output = Vector::<f32, N>::cast_from(output[ABSOLUTE_POS]);
    grad[ABSOLUTE_POS] = Vector::cast_from(masked::<N>(value, output));
}

impl EpilogueOps for CubeBackend {
    fn epilogue(x: FloatTensor<Self>, bias: FloatTensor<Self>, relu: bool) -> FloatTensor<Self> {
        add(x, bias, None, relu)
    }

    fn epilogue_with_residual(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        add(x, bias, Some(residual), relu)
    }

    fn dense_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        permute_nhwc_to_nchw(channels_last(grad))
    }

    fn rectified_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let grad = own(channels_last(grad));
        mask_rows(&channels_last(output), &grad);
        permute_nhwc_to_nchw(grad)
    }
}

/// See [`add_to_pixels`]; `x` and `residual` are `[n, c, h, w]`.
pub fn add(
    x: CubeTensor,
    bias: CubeTensor,
    residual: Option<CubeTensor>,
    relu: bool,
) -> CubeTensor {
    let output = own(channels_last(x));
    let residual = residual.map(channels_last);
    add_to_rows(&output, &dense(bias), residual.as_ref(), relu);
    permute_nhwc_to_nchw(output)
}

/// See [`add_to_pixels`]: in place in `output`, whose last axis are the channels. All tensors are dense.
pub(crate) fn add_to_rows(
    output: &CubeTensor,
    bias: &CubeTensor,
    residual: Option<&CubeTensor>,
    relu: bool,
) {
    let channels = channels(output);
    let width = width(channels);
    let units = output.meta.num_elements() / width;
    if units == 0 {
        return;
    }
    let (cubes, cube) = elementwise(output, units);
    let has_residual = residual.is_some();
    let unread = [width, output.dtype.size()];
    let residual = buffer_or_unread(&output.client, residual, unread);
    // SAFETY: all buffers are dense, and units beyond the output stop.
    unsafe {
        add_to_pixels::launch_unchecked(
            &output.client,
            cubes,
            cube,
            output.required_address_type(),
            width,
            buffer(output),
            buffer(bias),
            residual,
            channels / width,
            units,
            has_residual,
            relu,
            dtype_to_storage_type(output.dtype),
        );
    }
}

/// See [`mask_by_output`]: in place in `grad`. Both are dense and of one shape.
pub(crate) fn mask_rows(output: &CubeTensor, grad: &CubeTensor) {
    let width = width(channels(grad));
    let units = grad.meta.num_elements() / width;
    if units == 0 {
        return;
    }
    let (cubes, cube) = elementwise(grad, units);
    // SAFETY: both buffers are dense and of one shape, and units beyond them stop.
    unsafe {
        mask_by_output::launch_unchecked(
            &grad.client,
            cubes,
            cube,
            grad.required_address_type(),
            width,
            buffer(output),
            buffer(grad),
            units,
            dtype_to_storage_type(grad.dtype),
        );
    }
}

/// Size of the last axis.
fn channels(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().last().copied().unwrap_or(1)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::ops::{into_data_sync, permute_nchw_to_nhwc};

    /// `conv3x3` launches this kernel only after Burn's convolution, and 1x1 convolutions only without matrix units
    /// or if no kernel with an epilogue can run. So the kernel is tested directly.
    #[test]
    fn every_channel_gets_its_bias() {
        let Some((selected, device)) = crate::test_gpu::open() else {
            return;
        };
        let tensor = |values: Vec<f32>, shape: Vec<usize>| -> CubeTensor {
            CubeBackend::float_from_data(TensorData::new(values, shape), &device)
        };
        let [n, h, w] = [2, 3, 5];
        for (c, relu, is_last, has_residual) in [
            (5, true, true, false),
            (8, false, true, true),
            (8, true, false, true),
            (5, true, true, true),
        ] {
            let count = n * c * h * w;
            let values: Vec<f32> = (0..count).map(|i| i as f32 - count as f32 / 2.0).collect();
            let bias: Vec<f32> = (0..c)
                .map(|channel| 100.0 * channel as f32 - 150.0)
                .collect();
            // With the layout of a convolution output, and with another one.
            let output = match is_last {
                true => permute_nhwc_to_nchw(tensor(values.clone(), vec![n, h, w, c])),
                false => tensor(values.clone(), vec![n, c, h, w]),
            };
            let residual = has_residual.then(|| tensor(values.clone(), vec![n, c, h, w]));
            let kept = output.clone();
            let found = add(output, tensor(bias.clone(), vec![c]), residual, relu);
            let found: Vec<f32> = into_data_sync(permute_nchw_to_nhwc(found)).iter().collect();
            // `kept` still refers to the input, so it must not be overwritten.
            let kept: Vec<f32> = into_data_sync(permute_nchw_to_nhwc(kept)).iter().collect();
            for (index, found) in found.into_iter().enumerate() {
                let channel = index % c;
                let (pixel, image) = (index / c % (h * w), index / c / (h * w));
                let in_planes = values[(image * c + channel) * h * w + pixel];
                let value = if is_last { values[index] } else { in_planes };
                assert_eq!(kept[index], value, "value {index} of the input");
                let residual = if has_residual { in_planes } else { 0.0 };
                let sum = value + bias[channel] + residual;
                let wanted = if relu { sum.max(0.0) } else { sum };
                assert_eq!(found, wanted, "value {index} of {c} channels");
            }
        }
        selected.device.sync().expect("the device works");
    }
}
