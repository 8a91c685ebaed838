//! What every test of the GPU shares.

use std::sync::LazyLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rowscan::Result;
pub use rowscan::bench::oracle::Tol;
use rowscan::bench::oracle::compare;
use rowscan::gpu::{AdapterChoice, DType, Gpu, Options};
use rowscan::ops::matmul::{MatmulOptions, matmul};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

/// The portable device, and the one with every tier of the adapter where it has any.
static GPUS: LazyLock<Vec<(&'static str, Gpu)>> = LazyLock::new(|| {
    let choice = std::env::var("ROWSCAN_ADAPTER").unwrap_or_else(|_| "auto".into());
    let adapter: AdapterChoice = choice.parse().unwrap_or_default();
    let open = |portable| Gpu::open_blocking(&Options { adapter: adapter.clone(), portable, ..Options::default() });
    #[cfg(target_arch = "wasm32")]
    crate::console::begin();
    let portable = match open(true) {
        Ok(gpu) => gpu,
        Err(e) if cfg!(target_arch = "wasm32") || std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1") => {
            panic!("REQUIRE_GPU=1, but {e}")
        }
        Err(e) => {
            eprintln!("SKIPPED: every test that needs an adapter ({e})");
            return Vec::new();
        }
    };
    eprintln!("adapter: {}", portable.caps());
    let full = open(false).expect("the adapter opened before");
    let mut all = vec![("portable", portable)];
    if full.caps().tiers.subgroup {
        eprintln!("adapter: {}", full.caps());
        all.push(("subgroup", full));
    }
    all
});

/// Runs `test` on every tier; a missing adapter skips loudly, or fails under `REQUIRE_GPU=1`.
#[track_caller]
pub fn each_tier(test: impl Fn(&Gpu)) {
    #[cfg(target_arch = "wasm32")]
    let from = std::panic::Location::caller();
    for (tier, gpu) in GPUS.iter() {
        eprintln!("tier {tier}");
        test(gpu);
        #[cfg(target_arch = "wasm32")]
        crate::console::passed(from);
    }
}

/// All of these cases; in a browser, where the slowest software adapters are, every fourth from the first on.
pub fn some<T>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    cases.into_iter().step_by(if cfg!(target_arch = "wasm32") { 4 } else { 1 })
}

/// The adapter with the variants that a GPU would get, which a CPU adapter does not choose by itself: tiled and split
/// products, chunked scans, wide rows.
pub fn as_hardware() -> Option<Gpu> {
    let choice = std::env::var("ROWSCAN_ADAPTER").unwrap_or_else(|_| "auto".into());
    gpu()?;
    let options = Options { adapter: choice.parse().unwrap_or_default(), as_hardware: true, ..Options::default() };
    Some(Gpu::open_blocking(&options).expect("the adapter opened before"))
}

/// The first adapter tier, for tests of the runtime.
pub fn gpu() -> Option<&'static Gpu> {
    GPUS.last().map(|(_, gpu)| gpu)
}

/// Reproducible random numbers.
pub struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }
    /// Uniform in [lo, hi).
    pub fn uniform(&mut self, n: usize, lo: f32, hi: f32) -> Vec<f32> {
        (0..n).map(|_| lo + (hi - lo) * (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32).collect()
    }
    /// Zero mean, unit variance (sum of uniforms: bounded, so that no test depends on a rare tail).
    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        let draws = self.uniform(n * 3, -1.0, 1.0);
        draws.chunks_exact(3).map(|u| u.iter().sum()).collect()
    }
    /// Uniform in 0..below.
    pub fn below(&mut self, n: usize, below: u32) -> Vec<u32> {
        (0..n).map(|_| self.0.next_u32() % below).collect()
    }
}

/// The oracle's arithmetic is f64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Fails with the worst element unless everything is close. Prints the largest difference either way.
#[track_caller]
pub fn close(name: &str, got: &[f32], want: &[f64], tol: Tol) {
    match compare(name, got, want, tol) {
        Ok(largest) => eprintln!("  {name}: max |difference| {largest:.2e} over {}", got.len()),
        Err(e) => panic!("{e}"),
    }
}

/// Runs an operator in mid-graph position: its input comes from another launch, its result is read by another, and the
/// gradients of `leaves` come back through the tape from `dout`. Returns (out, gradients in order).
pub fn run(
    g: &Gpu, leaves: &[Var], dout: &[f32], op: impl FnOnce(&mut Recorder, &[Var]) -> Result<Var>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let attempt = || -> Result<_> {
        let mut r = Recorder::new(g);
        // every leaf through a copy and every result through another: no operator sees an end of the graph
        let inner: Vec<Var> = leaves.iter().map(|leaf| pass(&mut r, leaf)).collect::<Result<_>>()?;
        let out = op(&mut r, &inner)?;
        let out = pass(&mut r, &out)?;
        let seed = Tensor::from_slice(g, out.data.shape(), dout)?;
        let grads = r.backward_from(&out, seed, Grads::default())?;
        r.run()?;
        let values = out.data.to_vec(g)?;
        let found = leaves.iter().map(|leaf| match grads.get(leaf) {
            Some(grad) => grad.to_vec(g),
            None => Ok(Vec::new()),
        });
        Ok((values, found.collect::<Result<_>>()?))
    };
    attempt().unwrap_or_else(|e| panic!("{e}"))
}

/// The values that a forward pass gives.
pub fn inferred(g: &Gpu, forward: impl FnOnce(&mut Recorder) -> Result<Var>) -> Result<Vec<f32>> {
    let mut r = Recorder::inference(g);
    let out = forward(&mut r)?;
    r.run()?;
    out.data.to_vec(g)
}

/// Identity with a launch of its own in both directions.
fn pass(r: &mut Recorder, x: &Var) -> Result<Var> {
    let y = Tensor::scratch("pass", x.data.shape());
    y.copy_from(r, &x.data)?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        dx.copy_from(r, dy)?;
        grads.add(r, &x, dx)
    }))
}

/// x, whose values f16 has, in f16: by a product with the identity.
pub fn halved(r: &mut Recorder, x: &Var) -> Result<Var> {
    let identity = identity(r.gpu(), x)?;
    matmul(r, x, &identity, MatmulOptions { dtype: DType::F16, ..MatmulOptions::default() })
}

/// x, which is f16, in f32.
pub fn widened(r: &mut Recorder, x: &Var) -> Result<Var> {
    let identity = identity(r.gpu(), x)?;
    matmul(r, x, &identity, MatmulOptions::default())
}

fn identity(g: &Gpu, x: &Var) -> Result<Var> {
    let n = x.data.rows_cols().1;
    let values: Vec<f32> = (0..n * n).map(|i| f32::from(u8::from(i / n == i % n))).collect();
    Tensor::from_slice(g, &[n, n], &values).map(Var::constant)
}

/// The nearest values that f16 has.
pub fn round_to_half(values: &mut [f32]) {
    for v in values {
        *v = half::f16::from_f32(*v).to_f32();
    }
}

/// A leaf with these values.
pub fn leaf(g: &Gpu, shape: &[usize], values: &[f32]) -> Var {
    Var::leaf(Tensor::from_slice(g, shape, values).unwrap_or_else(|e| panic!("{e}")))
}
