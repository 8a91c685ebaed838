//! rowscan in a browser tab: bindings for JavaScript. The crate `rowscan` computes, the page draws.
#![cfg(target_arch = "wasm32")]

mod clouds;
mod inspect;
mod model;
mod segment;
mod training;

use rowscan::gpu::{Gpu, Options};
use wasm_bindgen::prelude::*;

/// A JavaScript `Error` with the kind of `error` as its `name`. The page opens a lost device again on `DeviceLost`.
fn js(error: rowscan::Error) -> JsValue {
    use rowscan::Error::{Argument, DeviceLost, Diverged, File, Limit, NoAdapter, OutOfMemory};
    let thrown = js_sys::Error::new(&error.to_string());
    thrown.set_name(match error {
        DeviceLost(_) => "DeviceLost",
        NoAdapter(_) => "NoAdapter",
        OutOfMemory(_) | Limit { .. } => "OutOfMemory",
        Argument { .. } | File { .. } => "BadInput",
        Diverged(_) => "Diverged",
        _ => "Failure",
    });
    thrown.into()
}

fn data(error: rowscan::data::DataError) -> JsValue {
    js(error.into())
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(message: &str);
}

/// Prints panics to the console. After a panic the module cannot be used any more.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}

/// An open device.
#[wasm_bindgen]
pub struct Device(Gpu);

#[wasm_bindgen]
impl Device {
    /// Opens the browser's adapter. `software` says whether it is a CPU, which WebGPU does not tell the module.
    pub async fn open(software: bool) -> Result<Device, JsValue> {
        let options = Options { as_software: software, ..Options::default() };
        Ok(Self(Gpu::open(&options).await.map_err(js)?))
    }

    /// Destroys the device, as the reset of a driver does. For tests.
    pub fn destroy(&self) -> Result<(), JsValue> {
        self.0.destroy().map_err(js)
    }

    /// Bytes of GPU memory in use.
    pub fn bytes(&self) -> f64 {
        self.0.counters().live_bytes as f64
    }
}
