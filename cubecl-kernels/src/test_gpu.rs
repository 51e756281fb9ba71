//! The GPU of unit tests that launch kernels directly.

use burn::backend::DispatchDevice;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, FloatDType, TensorData};
use burn_cubecl::ops::into_data_sync;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use mrcnn_backends::{BackendKind, Selected, select};

/// The CUDA device if `MRCNN_TEST_BACKEND` is `cuda`, otherwise the wgpu device. Prints a message and returns `None` if
/// there is none.
pub fn open() -> Option<(Selected, CubeDevice)> {
    let kind = match std::env::var("MRCNN_TEST_BACKEND").as_deref() {
        Ok("cuda") => BackendKind::Cuda,
        _ => BackendKind::Wgpu,
    };
    let Ok(selected) = select(kind) else {
        eprintln!("SKIPPED: {kind} is missing");
        return None;
    };
    let DispatchDevice::Cube(device) = selected.device.as_dispatch() else {
        panic!("{kind} is a device of CubeCL");
    };
    let device = device.clone();
    Some((selected, device))
}

/// A tensor of the numbers -1, 0 and 1. Their sums of products are exact in f32, in any order.
pub fn whole_numbers(
    shape: [usize; 4],
    seed: usize,
    device: &CubeDevice,
    dtype: DType,
) -> CubeTensor {
    let values = (0..shape.iter().product()).map(|i| ((i * 7919 + seed) % 31 % 3) as f32 - 1.0);
    let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
    let tensor = CubeBackend::float_from_data(data, device);
    match dtype {
        DType::F16 => CubeBackend::float_cast(tensor, FloatDType::F16),
        DType::BF16 => CubeBackend::float_cast(tensor, FloatDType::BF16),
        _ => tensor,
    }
}

/// The elements, in f32.
pub fn values(tensor: CubeTensor) -> Vec<f32> {
    let tensor = CubeBackend::float_cast(tensor, FloatDType::F32);
    into_data_sync(tensor).iter().collect()
}
