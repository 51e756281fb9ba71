//! Opening the device: a GPU through WebGPU, or the CPU through WebAssembly SIMD.

use burn::tensor::Device;
use wasm_bindgen::JsError;

/// Opens the backend that the worker selected. The worker queries the browser first, so that it can give the reason.
pub async fn open(backend: &str) -> Result<Device, JsError> {
    match backend {
        "cpu" => Ok(Device::flex()),
        "webgpu" => Device::wgpu_options()
            .init_async()
            .await
            .map_err(|error| JsError::new(&format!("WebGPU did not start: {error}"))),
        other => Err(JsError::new(&format!(
            "backend `{other}` does not exist; use webgpu or cpu"
        ))),
    }
}
