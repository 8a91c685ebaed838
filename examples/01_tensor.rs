//! Tensors and launches: recorded and run once, and recorded and replayed.
//!
//! ```text
//! cargo run --release --example 01_tensor
//! ```

use rowscan::gpu::{Gpu, Options, Program, Recording};
use rowscan::tensor::Tensor;

/// Runs the example.
pub fn main() -> rowscan::Result<()> {
    let g = Gpu::open_blocking(&Options::default())?;
    println!("{}", g.caps());

    // operators only record launches; `run` runs them
    let x = Tensor::from_slice(&g, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    let mut r = Recording::new(&g);
    let y = x.plus(&mut r, &x)?;
    r.run()?;
    println!("x + x = {:?}", y.to_vec(&g)?); // [2, 4, 6, 8, 10, 12]

    // a program plans, allocates and binds once, and is then replayed on new values
    let sum = x.plus(&mut r, &y)?;
    let program = Program::new(r)?;
    for start in [0.0f32, 10.0] {
        x.write(&g, &[start; 6])?;
        program.run()?;
        println!("{start} + (x + x) = {:?}", sum.to_vec(&g)?);
    }
    Ok(())
}
