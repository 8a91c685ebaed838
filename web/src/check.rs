//! A check for the tests in web/tests: the browser's shader compiler accepts every kernel.

use rowscan::gpu::{Kernel, Needs};
use wasm_bindgen::prelude::*;

use crate::{Device, js};

/// Variants that are compiled per kernel. Of a kernel with more, evenly spaced ones are compiled.
const MOST: usize = 16;

#[wasm_bindgen]
impl Device {
    /// Compiles every kernel, in up to 16 variants each. Returns how many were compiled.
    ///
    /// # Errors
    /// The message of the browser's compiler about the first kernel that it refuses.
    #[wasm_bindgen(js_name = compileAll)]
    pub async fn compile_all(&self) -> Result<usize, JsValue> {
        let all: Vec<&'static Kernel> =
            rowscan::ops::all().into_iter().chain(rowscan::tensor::KERNELS.iter().copied()).collect();
        let mut count = 0;
        // no browser has cooperative matrices
        for kernel in all.into_iter().filter(|kernel| kernel.needs == Needs::NONE) {
            // and no browser promises more than 16 KiB of workgroup memory
            let variants: Vec<_> = kernel.combinations().filter(|consts| !kernel.is_large(consts)).collect();
            for consts in variants.iter().step_by(variants.len().div_ceil(MOST).max(1)) {
                self.0.compile(kernel, false, consts).await.map_err(js)?;
                count += 1;
            }
        }
        Ok(count)
    }
}
