//! A panic ends the module: its text goes to the console and to the worker.

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);

    /// Set by the worker; called with the text of a panic.
    #[wasm_bindgen(js_namespace = globalThis, js_name = mrcnnPanicked, catch)]
    fn panicked(text: &str) -> Result<(), JsValue>;
}

/// Installs the hook.
pub fn report_to_console() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        error(&text);
        // Outside the package's worker there is nobody to tell.
        let _ = panicked(&text);
    }));
}
