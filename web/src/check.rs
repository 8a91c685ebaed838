//! A check for the tests in web/tests: the browser's shader compiler accepts the kernels.

use rowscan::gpu::{Kernel, Needs};
use wasm_bindgen::prelude::*;

use crate::{Device, js};

/// Variants that are compiled per kernel. Of a kernel with more, evenly spaced ones are compiled.
const MOST: usize = 3;

#[wasm_bindgen]
impl Device {
    /// Compiles one in `share` kernels, in up to 3 variants each. The seed says which. Returns the number
    /// of variants.
    ///
    /// # Errors
    /// The message of the browser's compiler about the first kernel that it refuses.
    #[wasm_bindgen(js_name = compileSample)]
    pub async fn compile_sample(&self, seed: u32, share: usize) -> Result<usize, JsValue> {
        let all: Vec<&'static Kernel> =
            rowscan::ops::all().into_iter().chain(rowscan::tensor::KERNELS.iter().copied()).collect();
        // no browser has cooperative matrices
        let offered = all.into_iter().filter(|kernel| kernel.needs == Needs::NONE);
        let mut count = 0;
        for kernel in offered.skip(seed as usize % share.max(1)).step_by(share.max(1)) {
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
