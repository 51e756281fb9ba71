//! Bias and ReLU after Burn's convolution, in one pass over its output.

use crate::launch::{buffer, dense, elementwise};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Adds `bias [c]` to `output [pixels, c]` in place, then applies `max(., 0)` if `relu`; NaN stays NaN.
///
/// `vectors` is the number of vectors per pixel, `units` that of all pixels.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_to_pixels<E: Float, N: Size>(
    output: &mut [Vector<E, N>],
    bias: &[Vector<E, N>],
    vectors: usize,
    units: usize,
    #[comptime] relu: bool,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let lanes = N::value().comptime();
    let sum = Vector::<f32, N>::cast_from(output[ABSOLUTE_POS])
        + Vector::<f32, N>::cast_from(bias[ABSOLUTE_POS % vectors]);
    let mut value = sum;
    if comptime!(relu) {
        #[unroll]
        for lane in 0..lanes {
            let one = sum.extract(lane);
            value.insert(lane, select(one < 0.0f32, 0.0f32, one));
        }
    }
    output[ABSOLUTE_POS] = Vector::cast_from(value);
}

/// `output [n, c, h, w]` of a convolution plus `bias [c]`; the output must have no other references.
pub fn add_bias(output: CubeTensor, bias: CubeTensor, relu: bool) -> CubeTensor {
    // Convolutions leave their output channels-last and dense unless its rows are padded.
    let output = dense(permute_nchw_to_nhwc(output));
    let bias = dense(bias);
    let [.., channels] = output.meta.shape().dims::<4>();
    let width = super::layer::width(channels);
    let units = output.meta.num_elements() / width;
    if units > 0 {
        let (cubes, cube) = elementwise(&output, units);
        // SAFETY: both buffers are dense, and units beyond the output stop.
        unsafe {
            add_to_pixels::launch_unchecked(
                &output.client,
                cubes,
                cube,
                output.required_address_type(),
                width,
                buffer(&output),
                buffer(&bias),
                channels / width,
                units,
                relu,
                dtype_to_storage_type(output.dtype),
            );
        }
    }
    permute_nhwc_to_nchw(output)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::DispatchDevice;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::ops::into_data_sync;
    use mrcnn_backends::{BackendKind, select};

    /// Burn's convolutions are used only on devices with matrix units, which software adapters do not have, so the
    /// kernel is tested directly.
    #[test]
    fn every_channel_gets_its_bias() {
        let kind = match std::env::var("MRCNN_TEST_BACKEND").as_deref() {
            Ok("cuda") => BackendKind::Cuda,
            _ => BackendKind::Wgpu,
        };
        let Ok(selected) = select(kind) else {
            return eprintln!("SKIPPED: {kind} is missing");
        };
        let DispatchDevice::Cube(device) = selected.device.as_dispatch() else {
            panic!("{kind} is a device of CubeCL");
        };
        let tensor = |values: Vec<f32>, shape: Vec<usize>| -> CubeTensor {
            CubeBackend::float_from_data(TensorData::new(values, shape), device)
        };
        let [n, h, w] = [2, 3, 5];
        for (c, relu, is_last) in [(5, true, true), (8, false, true), (8, true, false)] {
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
            let found = add_bias(output, tensor(bias.clone(), vec![c]), relu);
            let found: Vec<f32> = into_data_sync(permute_nchw_to_nhwc(found)).iter().collect();
            for (index, found) in found.into_iter().enumerate() {
                let channel = index % c;
                let value = match is_last {
                    true => values[index],
                    false => {
                        let (pixel, image) = (index / c % (h * w), index / c / (h * w));
                        values[(image * c + channel) * h * w + pixel]
                    }
                };
                let sum = value + bias[channel];
                let wanted = if relu { sum.max(0.0) } else { sum };
                assert_eq!(found, wanted, "value {index} of {c} channels");
            }
        }
        selected.device.sync().expect("the device works");
    }
}
