//! `tests/ops` in a browser: every operator against its oracle, on the browser's own WebGPU.
#![cfg(target_arch = "wasm32")]
#![allow(dead_code, reason = "the helpers of all tests, some of which do not run here")]

#[path = "../../tests/common.rs"]
mod common;
#[path = "../../tests/ops/mod.rs"]
mod ops;

/// The page has no standard output: what fails and how much has passed goes where the page reads it.
mod console {
    use wasm_bindgen::{JsCast, JsValue};

    fn set(name: &str, value: &JsValue) {
        let _ = js_sys::Reflect::set(&js_sys::global(), &name.into(), value);
    }

    pub fn begin() {
        std::panic::set_hook(Box::new(|panic| set("suiteFailed", &panic.to_string().into())));
    }

    /// Calls `suitePassed(where)`.
    pub fn passed(test: &std::panic::Location<'_>) {
        let told = js_sys::Reflect::get(&js_sys::global(), &"suitePassed".into());
        if let Ok(told) = told.and_then(|told| told.dyn_into::<js_sys::Function>()) {
            let _ = told.call1(&JsValue::NULL, &test.to_string().into());
        }
    }
}
