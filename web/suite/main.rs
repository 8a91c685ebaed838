//! `tests/ops` in a browser: every operator against its oracle, on the browser's own WebGPU.
#![cfg(target_arch = "wasm32")]
#![allow(dead_code, reason = "the helpers of all tests, some of which do not run here")]

#[path = "../../tests/common.rs"]
mod common;
#[path = "../../tests/ops/mod.rs"]
mod ops;

/// The page has no standard output: what fails and how much has passed goes where the page reads it.
mod console {
    use std::sync::atomic::{AtomicU32, Ordering};

    use wasm_bindgen::JsValue;

    static PASSED: AtomicU32 = AtomicU32::new(0);

    fn set(name: &str, value: &JsValue) {
        let _ = js_sys::Reflect::set(&js_sys::global(), &name.into(), value);
    }

    pub fn begin() {
        std::panic::set_hook(Box::new(|panic| set("suiteFailed", &panic.to_string().into())));
    }

    pub fn passed() {
        set("suitePassed", &(PASSED.fetch_add(1, Ordering::Relaxed) + 1).into());
    }
}
