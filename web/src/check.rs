//! What the browser tests ask: does the browser's compiler take every kernel?

use rowscan::gpu::{Caps, Kernel};
use rowscan::ops::attention::tiling;
use rowscan::ops::selective_scan::backward_tiling;
use wasm_bindgen::prelude::*;

use crate::{Device, js};

#[wasm_bindgen]
impl Device {
    /// Compiles every variant of every kernel. Returns how many there are.
    ///
    /// # Errors
    /// The first kernel that the browser's compiler refuses, with its words.
    #[wasm_bindgen(js_name = compileAll)]
    pub async fn compile_all(&self) -> Result<usize, JsValue> {
        let all: Vec<&'static Kernel> =
            rowscan::ops::all().into_iter().chain(rowscan::tensor::KERNELS.iter().copied()).collect();
        let mut count = 0;
        // no browser has cooperative matrices, nor takes the words that ask for them
        for kernel in all.into_iter().filter(|kernel| !kernel.source.starts_with("enable ")) {
            for consts in variants(kernel) {
                self.0.compile(kernel, false, &consts).await.map_err(js)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// What products do besides: activations and their slopes, f16 in place of f32.
const EPILOGUES: &[&[(&str, u32)]] = &[
    &[("ACT", 1)],
    &[("ACT", 2)],
    &[("ACT", 3)],
    &[("ACT", 4)],
    &[("ROUND", 1), ("ACT", 1), ("C16", 1)],
    &[("ROUND", 1), ("ACT", 3), ("R16", 1), ("C16", 1)],
    &[("ROUND", 1), ("A16", 1), ("B16", 1)],
    &[("ROUND", 1), ("A16", 1), ("B16", 1), ("VEC", 0)],
];

/// Constants, and behind them `HALF` both ways.
fn in_both<const N: usize>(all: impl IntoIterator<Item = [u32; N]>) -> Vec<Vec<u32>> {
    all.into_iter().flat_map(|consts| [0, 1].map(|half| [&consts[..], &[half]].concat())).collect()
}

/// Values of a kernel's constants that its launcher chooses: all of the small ones, the corners of the others.
fn variants(kernel: &Kernel) -> Vec<Vec<u32>> {
    if kernel.family() == "attention" {
        let heads = [1, 12, 16, 32, 48, 64, 128];
        let tilings = heads.iter().map(|&dh| tiling(dh, kernel.entry().starts_with("backward")));
        return in_both(tilings.map(|consts| consts.map(|(_, value)| value)));
    }
    if kernel.family() == "selective_scan_backward" {
        let tilings =
            [1, 8, 16, 48, 64].map(|states| backward_tiling(states, &Caps::portable()).map(|(_, value)| value));
        return in_both(tilings);
    }
    let value = |&(name, default): &(&str, u32), set: &[(&str, u32)]| {
        set.iter().find(|(known, _)| *known == name).map_or(default, |(_, value)| *value)
    };
    let epilogues: Vec<Vec<u32>> = if kernel.family() == "matmul" {
        EPILOGUES.iter().map(|set| kernel.consts.iter().map(|pair| value(pair, set)).collect()).collect()
    } else {
        Vec::new()
    };
    let all = kernel.consts.iter().fold(vec![Vec::new()], |all, &(name, default)| {
        let values: &[u32] = match name {
            "WG" => &[32, 256],
            "FORM" => &[0, 1, 2],
            "VEC" | "ROUND" | "X16" | "HALF" => &[0, 1],
            "TILE_M" => &[64, 128],
            "S" => &[1, 2],
            "K" => &[1, 3, 4, 8],
            "N" => &[1, 8, 16, 48], // past 48 with a shorter chunk
            _ => &[default],
        };
        let longer = |have: Vec<u32>| values.iter().map(move |&value| [have.as_slice(), &[value]].concat());
        all.into_iter().flat_map(longer).collect()
    });
    all.into_iter().chain(epilogues).collect()
}
