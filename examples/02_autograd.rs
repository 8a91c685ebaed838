//! Gradients: a two-layer network, its loss, and every gradient.
//!
//! ```text
//! cargo run --release --example 02_autograd
//! ```

use rowscan::ops::activation::gelu;
use rowscan::ops::matmul::{MatmulOptions, matmul};
use rowscan::ops::reduce::mean;
use rowscan::prelude::*;

/// Runs the example.
pub fn main() -> rowscan::Result<()> {
    let g = Gpu::open_blocking(&Options::default())?;
    let x = Var::constant(Tensor::from_slice(&g, &[2, 2], &[1.0, 0.0, 0.0, 1.0])?);
    let w1 = Var::leaf(Tensor::from_slice(&g, &[3, 2], &[0.5, -0.5, 1.0, 0.0, 0.0, 1.0])?);
    let w2 = Var::leaf(Tensor::from_slice(&g, &[1, 3], &[1.0, -1.0, 2.0])?);

    let mut r = Recorder::new(&g);
    let hidden = matmul(&mut r, &x, &w1, MatmulOptions::default())?; // (2, 3)
    let hidden = gelu(&mut r, &hidden)?;
    let out = matmul(&mut r, &hidden, &w2, MatmulOptions::default())?; // (2, 1)
    let loss = mean(&mut r, &out)?; // [1]
    let grads = r.backward(&loss, Grads::default())?;
    r.run()?;

    println!("loss     {:?}", loss.data.to_vec(&g)?);
    for (name, var) in [("dloss/dw1", &w1), ("dloss/dw2", &w2)] {
        if let Some(grad) = grads.get(var) {
            println!("{name} {:?}", grad.to_vec(&g)?);
        }
    }
    Ok(())
}
