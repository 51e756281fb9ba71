//! The device: a GPU by way of WebGPU, or the processor by way of WebAssembly SIMD.

use burn::tensor::Device;
use wasm_bindgen::JsError;

/// Opens what the worker chose: it asks the browser before, so that it can say why.
pub async fn open(backend: &str) -> Result<Device, JsError> {
    match backend {
        "cpu" => Ok(Device::flex()),
        "webgpu" => Device::wgpu_options()
            .init_async()
            .await
            .map_err(|error| JsError::new(&format!("WebGPU did not start: {error}"))),
        other => Err(JsError::new(&format!(
            "`{other}` is no backend; there are webgpu and cpu"
        ))),
    }
}
