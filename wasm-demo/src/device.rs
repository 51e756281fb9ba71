//! Opening the device: a GPU through WebGPU, or the CPU through WebAssembly SIMD.

use burn::tensor::Device;
use js_sys::Error;

/// Opens the backend that the worker selected. The worker queries the browser first, so that it can give the reason.
pub async fn open(backend: &str) -> Result<Device, Error> {
    match backend {
        "cpu" => Ok(Device::flex()),
        "webgpu" => Device::wgpu_options()
            .init_async()
            .await
            .map_err(|error| Error::new(&format!("WebGPU did not start: {error}"))),
        other => Err(Error::new(&format!(
            "backend `{other}` does not exist; use webgpu or cpu"
        ))),
    }
}
