//! The selective scan alone, both directions in one dispatch, against the plain loop of the oracle.
//!
//! ```text
//! cargo run --release --example 03_scan
//! ```

use rowscan::cpu::selective_scan::{Dims, Inputs, forward};
use rowscan::gpu::{Gpu, Options};
use rowscan::ops::selective_scan::{Scan, chan_layout, selective_scan};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

fn main() -> rowscan::Result<()> {
    let g = Gpu::open_blocking(&Options::default())?;
    let (s, b, l, e, n) = (2, 2, 98, 192, 16);
    let wave = |len: usize, scale: f32| (0..len).map(|i| scale * (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let (u, delta, xdbl) = (wave(s * b * l * e, 1.0), wave(s * b * l * e, 2.0), wave(s * b * l * 2 * n, 0.5));

    // A_log = ln(1 … N), D = 1, no bias on the step size, packed as the kernel reads them
    let layout = chan_layout(s, e, n);
    let mut chan = vec![0.0; layout.len];
    (0..s * e * n).for_each(|i| chan[layout.a_log + i] = ((i % n + 1) as f32).ln());
    chan[layout.d..layout.d + s * e].fill(1.0);

    let var = |shape: &[usize], values: &[f32]| Tensor::from_slice(&g, shape, values).map(Var::constant);
    let (gpu_u, gpu_delta) = (var(&[s, b, l, e], &u)?, var(&[s, b, l, e], &delta)?);
    let (gpu_xdbl, gpu_chan) = (var(&[s, b, l, 2 * n], &xdbl)?, var(&[layout.len], &chan)?);
    let mut r = Recorder::inference(&g);
    let (out, _) = selective_scan(&mut r, &gpu_u, &gpu_delta, &gpu_xdbl, &gpu_chan, None, Scan::mamba(n))?;
    r.run()?;
    let ours = out.data.to_vec(&g)?;

    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let (u, delta, xdbl, chan) = (wide(&u), wide(&delta), wide(&xdbl), wide(&chan));
    let theirs = forward(
        Dims { s, b, l, e, n, r: 0 },
        &Inputs {
            u: &u,
            delta: &delta,
            xdbl: &xdbl,
            a_log: &chan[layout.a_log..layout.a_log + s * e * n],
            d: Some(&chan[layout.d..layout.d + s * e]),
            delta_bias: None,
            z: None,
            softplus: true,
        },
    )
    .out;
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    println!("{} values, largest difference to the oracle {worst:.1e}", ours.len());
    Ok(())
}
