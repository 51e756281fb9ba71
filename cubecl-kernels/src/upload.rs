//! Uploads of tensors with dense rows.

use burn::tensor::kind::Basic;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// `values` on `device` as a tensor with dense rows, of the device's dtype. Burn pads the rows of uploads on CUDA, and
/// kernels that need dense rows would copy them, so the values are uploaded in one dimension. The shape may have zeros.
///
/// # Panics
///
/// If `values` does not have `D` dimensions.
pub fn upload_dense<const D: usize, K: Basic>(values: TensorData, device: &Device) -> Tensor<D, K> {
    assert_eq!(
        values.rank(),
        D,
        "upload_dense: values of {D} dimensions, not of shape {:?}",
        values.shape()
    );
    let count = values.num_elements();
    if count == 0 {
        // A reshape would read 0 as the former size of the dimension.
        return Tensor::from_data(values, device);
    }
    let (bytes, shape, dtype) = values.into_parts();
    let list = TensorData::from_bytes(bytes, [count], dtype);
    Tensor::<1, K>::from_data(list, device).reshape(shape)
}

/// The numbers `0..count` as `[1, count]`. Burn's `arange` is three launches on GPUs.
pub(crate) fn upload_range(count: usize, device: &Device) -> Tensor<2, Int> {
    let numbers: Vec<i32> = (0..count as i32).collect();
    upload_dense(TensorData::new(numbers, [1, count]), device)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn uploads_have_their_shape_and_values() {
        let device = Device::flex();
        for shape in [[2, 3, 7], [2, 0, 7], [0, 3, 7], [0, 0, 0]] {
            let values: Vec<f32> = (0..shape.iter().product::<usize>())
                .map(|i| i as f32)
                .collect();
            let data = TensorData::new(values.clone(), shape);
            let floats: Tensor<3> = upload_dense(data.clone(), &device);
            let integers: Tensor<3, Int> = upload_dense(data, &device);
            assert_eq!((floats.dims(), integers.dims()), (shape, shape));
            for found in [floats.into_data(), integers.into_data()] {
                assert_eq!(found.iter::<f32>().collect::<Vec<_>>(), values);
            }
        }
    }

    #[test]
    fn ranges_start_at_zero() {
        for count in [0, 1, 5] {
            let found = upload_range(count, &Device::flex());
            assert_eq!(found.dims(), [1, count]);
            let found: Vec<i32> = found.into_data().iter::<i32>().collect();
            assert_eq!(found, (0..count as i32).collect::<Vec<_>>());
        }
    }
}
