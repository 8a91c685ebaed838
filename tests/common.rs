//! Helpers of all tests that need a GPU: devices of every tier, random data, tolerances, and one-off runs.

use std::sync::OnceLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rowscan::Result;
pub use rowscan::bench::oracle::Tol;
use rowscan::bench::oracle::compare;
use rowscan::gpu::{AdapterChoice, DType, Gpu, Options};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

/// Devices on the adapter under test, by the tiers they use: the portable one, then one with every tier that the
/// adapter offers. `Options` can switch tiers off only together, so there is no device in between.
type Gpus = Vec<(String, Gpu)>;

/// The devices of the test that runs on this thread. Tests that run side by side have devices of their own: a driver on
/// the CPU compiles the shaders of one device one after the other.
fn gpus() -> &'static Gpus {
    static SETS: [OnceLock<Gpus>; 4] = [const { OnceLock::new() }; 4];
    let set = SETS.get(set::of_this_thread()).unwrap_or(&SETS[0]);
    set.get_or_init(open_gpus)
}

/// Which set of devices a thread has: the lowest that no other living thread has.
mod set {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, PoisonError};

    static TAKEN: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

    struct Set(usize);

    impl Drop for Set {
        fn drop(&mut self) {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        }
    }

    thread_local! {
        static SET: Set = {
            let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            let free = (0..).find(|set| !taken.contains(set)).unwrap_or_default();
            taken.insert(free);
            Set(free)
        };
    }

    pub fn of_this_thread() -> usize {
        SET.with(|set| set.0)
    }
}

fn open_gpus() -> Gpus {
    #[cfg(target_arch = "wasm32")]
    crate::console::begin();
    #[cfg(not(target_arch = "wasm32"))]
    crate::manifest::launched::begin();
    let open = |portable| Gpu::open_blocking(&Options { adapter: adapter(), portable, ..Options::default() });
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
    let mut all = vec![("portable".to_string(), portable)];
    let full = open(false).expect("the adapter opened before");
    // Compares all capabilities, so that a tier added to `Tiers` is tested without a change here.
    if full.caps() != all[0].1.caps() {
        let rounding = if full.caps().nearest { ", pack2x16float rounds to nearest" } else { "" };
        all.push((format!("{}{rounding}", full.caps().tiers), full));
    }
    all.iter().for_each(|(_, gpu)| eprintln!("adapter: {}", gpu.caps()));
    all
}

/// The adapter that ROWSCAN_ADAPTER names, or the best.
pub fn adapter() -> AdapterChoice {
    std::env::var("ROWSCAN_ADAPTER").ok().and_then(|choice| choice.parse().ok()).unwrap_or_default()
}

/// Runs `test` on the portable device and on the one with every tier. Without an adapter the test is skipped with a
/// message, or fails if `REQUIRE_GPU=1`. The message of a failed assertion begins with the tier.
#[track_caller]
pub fn each_tier(test: impl Fn(&Gpu)) {
    for (tier, gpu) in gpus() {
        on_tier(tier, || test(gpu));
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[track_caller]
fn on_tier(tier: &str, test: impl FnOnce()) {
    eprintln!("tier {tier}");
    let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)) else { return };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked without a message");
    panic!("tier {tier}: {text}");
}

/// A panic aborts the module in a browser, so it cannot be caught here: the page's panic hook adds the tier. The page
/// chooses tests by a seed, because all of them take eight minutes there.
#[cfg(target_arch = "wasm32")]
#[track_caller]
fn on_tier(tier: &'static str, test: impl FnOnce()) {
    if crate::console::chosen(std::panic::Location::caller()) {
        crate::console::tier(tier);
        test();
        crate::console::passed(std::panic::Location::caller());
    }
}

/// Every second case, chosen by the seed of the day; ROWSCAN_TEST_SHARE=1 takes all. In a browser every fourth, from
/// the first on, because software adapters are slowest there.
#[track_caller]
pub fn some<T>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    one_in(2, cases)
}

/// One case in `share`, as [`some`]. The line of the call is part of the draw, so that every pair of cases from two
/// lists of one test meets on some day.
#[track_caller]
pub fn one_in<T>(share: usize, cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    #[cfg(target_arch = "wasm32")]
    let (first, step) = (0, 2 * share);
    #[cfg(not(target_arch = "wasm32"))]
    let step = if std::env::var("ROWSCAN_TEST_SHARE").is_ok_and(|v| v == "1") { 1 } else { share };
    let cases: Vec<T> = cases.into_iter().collect();
    #[cfg(not(target_arch = "wasm32"))]
    let first = {
        let line = u64::from(std::panic::Location::caller().line());
        Random::new(seed() as u64 ^ line << 32).below(1, step.min(cases.len()).max(1) as u32)[0] as usize
    };
    cases.into_iter().skip(first).step_by(step)
}

/// What chooses among the cases of a sampled test: ROWSCAN_TEST_SEED, or the number of the day. A failed test prints
/// it.
#[cfg(not(target_arch = "wasm32"))]
pub fn seed() -> usize {
    let today = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() / 86_400) as usize;
    let seed = std::env::var("ROWSCAN_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(today);
    println!("ROWSCAN_TEST_SEED={seed}");
    seed
}

/// A new device that chooses kernel variants as for a GPU: tiled products, split sums, chunked scans, wide rows. CPU
/// adapters, which CI has, would choose others by themselves. None in a browser, whose software adapter takes minutes
/// over them; whether a browser's compiler takes them, `cargo xtask wgsl-check` says.
pub fn as_hardware() -> Option<Gpu> {
    if cfg!(target_arch = "wasm32") {
        return None;
    }
    gpu()?;
    let options = Options { adapter: adapter(), as_hardware: true, ..Options::default() };
    Some(Gpu::open_blocking(&options).expect("the adapter opened before"))
}

/// [`each_tier`], and again on a device that chooses kernel variants as for a GPU, on some days with tiers and on
/// others without.
#[track_caller]
#[cfg(not(target_arch = "wasm32"))]
pub fn each_choice(test: impl Fn(&Gpu)) {
    each_tier(&test);
    let Some(full) = gpu() else { return };
    for portable in some([true, false]) {
        let options = Options { adapter: adapter(), as_hardware: true, portable, ..Options::default() };
        let gpu = Gpu::open_blocking(&options).expect("the adapter opened before");
        if gpu.caps() != full.caps() {
            on_tier(if portable { "portable, as hardware" } else { "as hardware" }, || test(&gpu));
        }
    }
}

/// [`each_tier`]: an adapter of a browser opens only one device.
#[track_caller]
#[cfg(target_arch = "wasm32")]
pub fn each_choice(test: impl Fn(&Gpu)) {
    each_tier(test);
}

/// The device with every tier, for tests that need any device.
pub fn gpu() -> Option<&'static Gpu> {
    gpus().last().map(|(_, gpu)| gpu)
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
    /// Zero mean and unit variance: a sum of three uniforms, so |x| < 3 and no tolerance depends on a rare tail.
    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        let draws = self.uniform(n * 3, -1.0, 1.0);
        draws.chunks_exact(3).map(|u| u.iter().sum()).collect()
    }
    /// Uniform integers in 0..below.
    pub fn below(&mut self, n: usize, below: u32) -> Vec<u32> {
        (0..n).map(|_| self.0.next_u32() % below).collect()
    }
}

/// f32 as f64, the arithmetic of the oracle.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Fails with the worst element unless |got − want| ≤ rel·|want| + abs everywhere (`torch.testing.assert_close`).
/// Prints the largest difference.
#[track_caller]
pub fn close(name: &str, got: &[f32], want: &[f64], tol: Tol) {
    match compare(name, got, want, tol) {
        Ok(largest) => eprintln!("  {name}: max |difference| {largest:.2e} over {}", got.len()),
        Err(e) => panic!("{e}"),
    }
}

/// Fails unless ‖got − want‖ ≤ limit·max(‖want‖, 10⁻³), norms Euclidean. The 10⁻³ makes the limit absolute where the
/// expected values are 0.
#[track_caller]
pub fn close_l2(name: &str, got: &[f32], want: &[f64], limit: f64) {
    assert_eq!(got.len(), want.len(), "{name}: length");
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let size = norm(&mut want.iter().copied());
    let error = norm(&mut got.iter().zip(want).map(|(&g, w)| f64::from(g) - w));
    eprintln!("  {name}: |difference|/|expected| {:.1e} over {}", error / size.max(1e-3), got.len());
    assert!(error <= limit * size.max(1e-3), "{name}: off by {error:e} of {size:e}, allowed {limit:e}");
}

/// Runs an operator in the middle of a graph: another launch writes its inputs and another reads its result, as in a
/// model. `dout` is the gradient of the result. Returns the result and the gradients of `leaves`; a leaf that gets no
/// gradient has an empty one.
pub fn run(
    g: &Gpu, leaves: &[Var], dout: &[f32], op: impl FnOnce(&mut Recorder, &[Var]) -> Result<Var>,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let attempt = || -> Result<_> {
        let mut r = Recorder::new(g);
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

/// Records `body`, runs the recording once, and returns what `body` returned.
#[track_caller]
pub fn at_once<T>(g: &Gpu, body: impl FnOnce(&mut Recorder) -> Result<T>) -> T {
    recorded_and_run(Recorder::new(g), body)
}

/// The values of the tensor that `body` records. No rules for a backward pass are kept, as under `torch.no_grad()`.
#[track_caller]
pub fn values(g: &Gpu, body: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Vec<f32> {
    recorded_and_run(Recorder::inference(g), body).to_vec(g).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
fn recorded_and_run<T>(mut r: Recorder, body: impl FnOnce(&mut Recorder) -> Result<T>) -> T {
    let made = body(&mut r).and_then(|made| r.run().map(|()| made));
    made.unwrap_or_else(|e| panic!("{e}"))
}

/// Identity with one launch forward and one backward.
fn pass(r: &mut Recorder, x: &Var) -> Result<Var> {
    let y = Tensor::scratch("pass", x.data.shape());
    y.copy_from(r, &x.data)?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        dx.copy_from(r, dy)?;
        grads.add(r, &x, dx)
    }))
}

/// x stored as f16, with a gradient: PyTorch's `x.half()`. Exact if every value of x is an f16 already.
pub fn to_f16(r: &mut Recorder, x: &Var) -> Result<Var> {
    stored_as(r, x, DType::F16)
}

/// x, stored as f16, as f32 and with a gradient, which is rounded to f16: PyTorch's `x.float()`.
pub fn to_f32(r: &mut Recorder, x: &Var) -> Result<Var> {
    stored_as(r, x, DType::F32)
}

/// x in this type, with a gradient: PyTorch's `x.to(dtype)`.
pub fn stored_as(r: &mut Recorder, x: &Var, dtype: DType) -> Result<Var> {
    let y = x.data.to_dtype(r, dtype)?;
    Ok(r.push(x, y, |r, x, dy, grads| grads.add(r, &x, dy.clone())))
}

/// Rounds each value to the nearest f16.
pub fn round_to_f16(values: &mut [f32]) {
    for v in values {
        *v = half::f16::from_f32(*v).to_f32();
    }
}

/// A leaf with these values.
pub fn leaf(g: &Gpu, shape: &[usize], values: &[f32]) -> Var {
    Var::leaf(Tensor::from_slice(g, shape, values).unwrap_or_else(|e| panic!("{e}")))
}
