//! rowscan in a browser tab: bindings for JavaScript. The crate `rowscan` computes, the page draws.
#![cfg(target_arch = "wasm32")]

mod check;
mod clouds;
mod inspect;
mod model;
mod training;

use rowscan::data::Rgb8;
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

/// Splits RGB bytes into square images of `side` pixels.
fn squares(bytes: &[u8], side: usize) -> Vec<Rgb8> {
    let image = |pixels: &[u8]| Rgb8 { width: side as u32, height: side as u32, pixels: pixels.to_vec() };
    bytes.chunks((side * side * 3).max(1)).map(image).collect()
}

/// Prints panics to the console. After a panic the module cannot be used any more.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        js_sys::eval(&format!("console.error({:?})", panic.to_string())).map_or((), drop)
    }));
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
