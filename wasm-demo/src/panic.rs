//! Panic hook: a panic ends the module, and its message goes to the console and to the worker.

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);

    /// Set by the worker; called with the message of a panic.
    #[wasm_bindgen(js_namespace = globalThis, js_name = mrcnnPanicked, catch)]
    fn panicked(text: &str) -> Result<(), JsValue>;
}

/// Installs the panic hook.
pub fn report_to_console() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        error(&text);
        // Outside the worker of the package, the function does not exist.
        let _ = panicked(&text);
    }));
}
