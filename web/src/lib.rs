//! What the page's worker calls: a device, takes to learn from, and networks that were trained on them.
//!
//! Values cross as JSON, arrays of numbers and files as they are. What goes wrong is an `Error` of JavaScript's with the
//! library's words.

mod device;
mod events;
mod settings;
mod takes;
mod trained;

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(message: &str);
}

/// Says in the console where a panic was, which is a fault of ours.
#[wasm_bindgen(start)]
pub fn begin() {
    std::panic::set_hook(Box::new(|info| error(&info.to_string())));
}

/// The version of the library.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_string()
}

/// An error as JavaScript has them.
fn thrown(fault: impl std::fmt::Display) -> JsError {
    JsError::new(&fault.to_string())
}

/// A value as JSON.
fn json(value: &impl serde::Serialize) -> Result<String, JsError> {
    serde_json::to_string(value).map_err(thrown)
}
