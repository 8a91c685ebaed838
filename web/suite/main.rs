//! `tests/ops` in a browser: every operator against its oracle, on the browser's own WebGPU.
#![cfg(target_arch = "wasm32")]
#![allow(dead_code, reason = "the helpers are shared with tests that do not run here")]

#[path = "../../tests/common.rs"]
mod common;
#[path = "../../tests/ops/mod.rs"]
mod ops;
#[path = "../../tests/wgsl.rs"]
mod wgsl;

/// The browser's shader compiler, which `cargo xtask wgsl-check` cannot ask.
mod compiling {
    use rowscan::gpu::{Gpu, Kernel, Needs, Options};
    use wasm_bindgen::prelude::*;

    /// Variants that are compiled per kernel. Of a kernel with more, evenly spaced ones are compiled.
    const MOST: usize = 3;

    /// Compiles one in `share` kernels, in up to 3 variants each. The seed says which. Returns the number of variants,
    /// or the message of the browser's compiler about the first kernel that it refuses.
    #[wasm_bindgen(js_name = compileSample)]
    pub async fn compile_sample(seed: u32, share: usize) -> Result<usize, JsValue> {
        let js = |error: rowscan::Error| JsValue::from(error.to_string());
        let g = Gpu::open(&Options { as_software: true, ..Options::default() }).await.map_err(js)?;
        let all: Vec<&'static Kernel> =
            rowscan::ops::all().into_iter().chain(rowscan::tensor::KERNELS.iter().copied()).collect();
        // no browser has cooperative matrices
        let offered = all.into_iter().filter(|kernel| kernel.needs == Needs::NONE);
        let mut count = 0;
        for kernel in offered.skip(seed as usize % share.max(1)).step_by(share.max(1)) {
            // and no browser promises more than 16 KiB of workgroup memory
            let variants: Vec<_> = kernel.combinations().filter(|consts| !kernel.is_large(consts)).collect();
            for consts in variants.iter().step_by(variants.len().div_ceil(MOST).max(1)) {
                g.compile(kernel, false, consts).await.map_err(js)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

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
