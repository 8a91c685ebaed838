//! An operator of your own: its shader, its launcher, its gradient, and a check of the gradient. It is the squared ReLU
//! y = max(x, 0)², as in Primer (So et al. 2021).
//!
//! ```text
//! cargo run --release --example 06_own_operator
//! ```

use rowscan::gpu::{Field, Grid, Kernel, Scalars, read, write};
use rowscan::ops::reduce::sum;
use rowscan::prelude::*;

/// The scalars of a launch, in the order of `Params` in the shader.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Scalar {
    n: u32,
}

impl Scalars for Scalar {
    const FIELDS: &'static [Field] = &[("n", 0, "u32")];
}

/// Both kernels. The workgroup's number is folded: a grid of more than 32768 goes on in y.
const SOURCE: &str = "
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (wid.y * 32768u + wid.x) * 256u + tid;
    if i < p.n { let v = max(x[i], 0.0); y[i] = v * v; }
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (wid.y * 32768u + wid.x) * 256u + tid;
    if i < p.n { dx[i] = 2.0 * max(x[i], 0.0) * dy[i]; }
}
";

// The part of the name behind the dot is the entry point.
const FORWARD: Kernel = Kernel::new::<Scalar>("squared_relu.forward", SOURCE, &[read(1, "x"), write(2, "y")]);
const BACKWARD: Kernel =
    Kernel::new::<Scalar>("squared_relu.backward", SOURCE, &[read(1, "x"), read(3, "dy"), write(4, "dx")]);

/// x, any shape → max(x, 0)², the same shape.
fn squared_relu(r: &mut Recorder, x: &Var) -> rowscan::Result<Var> {
    let y = Tensor::scratch("squared_relu", x.data.shape());
    let (scalars, grid) = (Scalar { n: y.len() as u32 }, Grid::items(y.len(), 256));
    r.launch(&FORWARD, grid, &scalars, &[&x.data, &y])?;
    // the rule gets back what it was pushed with, and the gradient of the result
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&BACKWARD, grid, &scalars, &[&x.data, dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

/// Σ max(x, 0)² and its gradient, for n numbers.
fn loss(g: &Gpu, values: &[f32]) -> rowscan::Result<(f32, Vec<f32>)> {
    let x = Var::leaf(Tensor::from_slice(g, &[values.len()], values)?);
    let mut r = Recorder::new(g);
    let y = squared_relu(&mut r, &x)?;
    let loss = sum(&mut r, &y)?;
    let grads = r.backward(&loss, Grads::default())?;
    r.run()?;
    let dx = grads.get(&x).map_or(Ok(Vec::new()), |dx| dx.to_vec(g))?;
    Ok((loss.data.to_vec(g)?[0], dx))
}

/// Runs the example. Returns the largest difference between the gradient and central differences.
pub fn run() -> rowscan::Result<f32> {
    let g = Gpu::open_blocking(&Options::default())?;
    let x = [-2.0f32, -0.5, 0.25, 1.0, 3.0];
    let (value, gradient) = loss(&g, &x)?;
    println!("loss {value}, dx {gradient:?}"); // 10.0625, [0, 0, 0.5, 2, 6]
    let mut worst = 0.0f32;
    for i in 0..x.len() {
        let moved = |by: f32| {
            let mut x = x;
            x[i] += by;
            loss(&g, &x).map(|found| found.0)
        };
        worst = worst.max((gradient[i] - (moved(0.05)? - moved(-0.05)?) / 0.1).abs());
    }
    println!("largest difference to central differences {worst:.1e}");
    Ok(worst)
}

fn main() -> rowscan::Result<()> {
    run().map(|_| ())
}
