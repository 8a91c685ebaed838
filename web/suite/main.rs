//! `tests/ops` in a browser: every operator against its oracle, on the browser's own WebGPU.
#![cfg(target_arch = "wasm32")]
#![allow(dead_code, reason = "the helpers are shared with tests that do not run here")]

#[path = "../../tests/common.rs"]
mod common;
#[path = "../../tests/ops/mod.rs"]
mod ops;
#[path = "../../tests/wgsl.rs"]
mod wgsl;

/// Results for the page. A module has no standard output, so they go to global variables and a function that
/// web/suite/index.html defines.
mod console {
    use std::cell::Cell;
    use std::panic::Location;

    use wasm_bindgen::{JsCast, JsValue};

    thread_local! {
        /// The tier under test, for the message of a panic.
        static TIER: Cell<&'static str> = const { Cell::new("none") };
    }

    /// Makes a panic leave its message, with the tier, in `suiteFailed`.
    pub fn begin() {
        std::panic::set_hook(Box::new(|panic| {
            let message = format!("tier {}: {panic}", TIER.get());
            let _ = js_sys::Reflect::set(&js_sys::global(), &"suiteFailed".into(), &message.into());
        }));
    }

    /// Whether the page wants the test at this place in the source: what its function `suiteChooses(place)` says.
    pub fn chosen(test: &Location<'_>) -> bool {
        call("suiteChooses", test).is_none_or(|answer| answer.is_truthy())
    }

    /// Sets the tier that the next assertions are about.
    pub fn tier(name: &'static str) {
        TIER.set(name);
    }

    /// Reports that the test at this place in the source passed on the current tier: calls `suitePassed(place)`.
    pub fn passed(test: &Location<'_>) {
        call("suitePassed", test);
    }

    /// Calls a function of the page, if it has it, with a place in the source.
    fn call(name: &str, test: &Location<'_>) -> Option<JsValue> {
        let function = js_sys::Reflect::get(&js_sys::global(), &name.into()).ok()?;
        function.dyn_into::<js_sys::Function>().ok()?.call1(&JsValue::NULL, &test.to_string().into()).ok()
    }
}
