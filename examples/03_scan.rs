//! Mamba's selective scan, both directions in one dispatch, compared with the plain loop of the oracle.
//!
//! ```text
//! cargo run --release --example 03_scan
//! ```

use rowscan::cpu::selective_scan::{Dims, Inputs, forward};
use rowscan::gpu::{Gpu, Options};
use rowscan::ops::selective_scan::{ScanOptions, selective_scan};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

/// Runs the example.
pub fn main() -> rowscan::Result<()> {
    let g = Gpu::open_blocking(&Options::default())?;
    let (s, b, l, e, n) = (2, 2, 98, 192, 16);
    let wave = |len: usize, scale: f32| (0..len).map(|i| scale * (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let (u, delta) = (wave(s * b * l * e, 1.0), wave(s * b * l * e, 2.0));
    let (b_, c) = (wave(s * b * l * n, 0.5), wave(s * b * l * n, 0.25));
    // A = −1 … −N for every channel, D = 1
    let a_log: Vec<f32> = (0..s * e * n).map(|i| ((i % n + 1) as f32).ln()).collect();
    let d = vec![1.0; s * e];

    let var = |shape: &[usize], values: &[f32]| Tensor::from_slice(&g, shape, values).map(Var::constant);
    let (tokens, states) = ([s, b, l, e], [s, b, l, n]);
    let (gpu_u, gpu_delta, gpu_a) = (var(&tokens, &u)?, var(&tokens, &delta)?, var(&[s, e, n], &a_log)?);
    let (gpu_b, gpu_c, gpu_d) = (var(&states, &b_)?, var(&states, &c)?, var(&[s, e], &d)?);
    let options = ScanOptions { d: Some(&gpu_d), delta_softplus: true, ..ScanOptions::default() };
    let mut r = Recorder::inference(&g);
    let (out, _) = selective_scan(&mut r, &gpu_u, &gpu_delta, &gpu_a, &gpu_b, &gpu_c, options)?;
    r.run()?;
    let ours = out.data.to_vec(&g)?;

    // the oracle takes B and C as columns of one tensor
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let xdbl: Vec<f32> = b_.chunks(n).zip(c.chunks(n)).flat_map(|(b, c)| [b, c].concat()).collect();
    let (u, delta, xdbl, a_log, d) = (wide(&u), wide(&delta), wide(&xdbl), wide(&a_log), wide(&d));
    let inputs = Inputs {
        u: &u,
        delta: &delta,
        xdbl: &xdbl,
        a_log: &a_log,
        d: Some(&d),
        delta_bias: None,
        z: None,
        softplus: true,
    };
    let theirs = forward(Dims { s, b, l, e, n, r: 0 }, &inputs).out;
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    println!("{} values, largest difference to the oracle {worst:.1e}", ours.len());
    Ok(())
}
