//! Tensors and launches: eager use is record and run once.
//!
//! ```text
//! cargo run --release --example 01_tensor
//! ```

use rowscan::gpu::{Gpu, Options, Program};
use rowscan::tensor::Tensor;

fn main() -> rowscan::Result<()> {
    let g = Gpu::open_blocking(&Options::default())?;
    println!("{}", g.caps());

    // launches queue up; reading runs them
    let x = Tensor::from_slice(&g, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    let y = Tensor::scratch("y", &[2, 3]);
    y.copy_from(&g, &x)?;
    y.add_into(&g, &x)?;
    println!("x + x = {:?}", y.to_vec(&g)?); // [2, 4, 6, 8, 10, 12]

    // the same launches recorded: planned, allocated and bound once, then replayed on new values
    let (recording, sum) = g.record(|| {
        let sum = Tensor::scratch("sum", &[2, 3]);
        sum.copy_from(&g, &x)?;
        sum.add_into(&g, &y)?;
        Ok(sum)
    })?;
    let program = Program::new(&g, recording)?;
    for start in [0.0, 10.0] {
        x.write(&g, &[start; 6])?;
        program.run()?;
        println!("{start} + (x + x) = {:?}", sum.to_vec(&g)?);
    }
    Ok(())
}
