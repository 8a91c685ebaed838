//! rng: random tensors, drawn anew each time a recorded step is replayed. The generator is Philox4x32-10 (Salmon et al.
//! 2011), as in PyTorch on CUDA; PyTorch's numbers differ. Definition: `shaders/rng.wgsl`.
//!
//! A draw is a function of the seed, step and part in `state`, a [`StepState`], and of the
//! caller's `stream`. Two draws of one step are independent if their streams differ. There are no gradients.

use super::step::StepState;
use crate::error::{Error, Result};
use crate::gpu::{Bind, DType, Element, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `rng.wgsl`.
    pub(crate) struct Rng { n: u32, stream: u32, cols: u32, ld: u32 }
}

const SRC: &str = wgsl!("rng", "grid", "math", "step");
const OUT: &[Bind] = &[read(1, "state").words(), write(3, "out")];

const WORDS: Kernel = Kernel::new::<Rng>("rng.words", SRC, &[read(1, "state").words(), write(4, "bits").u32()]);
const BELOW: Kernel = Kernel::new::<Rng>("rng.below", SRC, &[read(1, "state").words(), write(4, "bits").u32()]);
const UNIFORM: Kernel = Kernel::new::<Rng>("rng.uniform_forward", SRC, OUT);
const NORMAL: Kernel = Kernel::new::<Rng>("rng.normal_forward", SRC, OUT);
const DROP_PATH: Kernel =
    Kernel::new::<Rng>("rng.drop_path", SRC, &[read(1, "state").words(), read(2, "drop"), write(3, "out")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&WORDS, &BELOW, &UNIFORM, &NORMAL, &DROP_PATH];

/// Random words of 32 bits.
///
/// - Shapes: `state` (8) → `shape`, u32.
/// - PyTorch: `torch.randint(0, 2**32, shape)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::{rng::words, step::StepState}, tape::*, tensor::Tensor};
/// # let state = StepState::tensor();
/// StepState::new(0, 0.0, (0.9, 0.999), 0).write(g, &state)?; // seed 0, step 0
/// let mut r = Recorder::inference(g);
/// let x = words(&mut r, &state, 0, &[4])?;
/// r.run()?;
/// let x: Vec<u32> = bytemuck::pod_collect_to_vec(&x.read(g)?.wait()?);
/// assert_eq!(x, [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]); // Random123's known answer
/// # Ok(()) });
/// ```
pub fn words(r: &mut Recorder, state: &Tensor, stream: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &WORDS, "random words", state, stream, shape, 0)
}

/// Random whole numbers in 0..`bound`: ⌊word·bound/2³²⌋. Some are more likely than others by `bound`/2³².
///
/// - Shapes: `state` (8) → `shape`, u32.
/// - PyTorch: `torch.randint(0, bound, shape)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::{rng::below, step::StepState}, tape::*, tensor::Tensor};
/// # let state = StepState::tensor();
/// StepState::new(0, 0.0, (0.9, 0.999), 0).write(g, &state)?; // seed 0, step 0
/// let mut r = Recorder::inference(g);
/// let x = below(&mut r, &state, 0, 10, &[4])?;
/// r.run()?;
/// let x: Vec<u32> = bytemuck::pod_collect_to_vec(&x.read(g)?.wait()?);
/// assert_eq!(x, [3, 8, 7, 6]); // the words of the example of `words`, times 10/2³²
/// # Ok(()) });
/// ```
pub fn below(r: &mut Recorder, state: &Tensor, stream: u32, bound: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &BELOW, "random numbers", state, stream, shape, bound)
}

/// Random numbers, uniform in [0, 1): the multiples of 2^-24 that the 24 high bits of a word give.
///
/// - Shapes: `state` (8) → `shape`.
/// - PyTorch: `torch.rand(shape)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::{rng::uniform, step::StepState}, tape::*, tensor::Tensor};
/// # let state = StepState::tensor();
/// StepState::new(0, 0.0, (0.9, 0.999), 0).write(g, &state)?; // seed 0, step 0
/// let mut r = Recorder::inference(g);
/// let u = uniform(&mut r, &state, 0, &[4])?;
/// r.run()?;
/// assert_close(&u.to_vec(g)?, &[0.3990, 0.8805, 0.7357, 0.6055], 1e-4);
/// # Ok(()) });
/// ```
pub fn uniform(r: &mut Recorder, state: &Tensor, stream: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &UNIFORM, "uniform", state, stream, shape, 0)
}

/// Random numbers from the standard normal distribution, by Box and Muller's method.
///
/// - Shapes: `state` (8) → `shape`.
/// - PyTorch: `torch.randn(shape)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::{rng::normal, step::StepState}, tape::*, tensor::Tensor};
/// # let state = StepState::tensor();
/// StepState::new(0, 0.0, (0.9, 0.999), 0).write(g, &state)?; // seed 0, step 0
/// let mut r = Recorder::inference(g);
/// let x = normal(&mut r, &state, 0, &[10_000])?;
/// r.run()?;
/// let x = x.to_vec(g)?;
/// let mean = |f: fn(f32) -> f32| x.iter().map(|&x| f(x)).sum::<f32>() / 10_000.0;
/// assert_close(&[mean(|x| x), mean(|x| x * x)], &[0.0, 1.0], 0.05); // mean and variance
/// # Ok(()) });
/// ```
pub fn normal(r: &mut Recorder, state: &Tensor, stream: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &NORMAL, "normal", state, stream, shape, 0)
}

/// DropPath's factors for all branches of a model: a row for each branch, with a draw for each sample.
///
/// A draw is 1/(1 − p) with probability 1 − p, and 0 otherwise, where p is the drop probability of the row. A row has
/// `cols` draws and is filled with 0 up to `ld`, a multiple of 64, so that a row can be bound by itself.
///
/// - Shapes: `state` (8), p (`rows`) → (`rows`, `ld`).
/// - timm: `random_tensor` of `drop_path(x, drop_prob=p)`, with `scale_by_keep=True`.
/// - Source: Huang et al. 2016 (stochastic depth).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::{rng::drop_path, step::StepState}, tape::*, tensor::Tensor};
/// # let state = StepState::tensor();
/// # StepState::new(0, 0.0, (0.9, 0.999), 0).write(g, &state)?;
/// let p = Tensor::from_slice(g, &[2], &[0.0, 0.75])?; // two branches
/// let mut r = Recorder::inference(g);
/// let factors = drop_path(&mut r, &state, 0, &p, 2, 3, 64)?; // three samples
/// r.run()?;
/// let factors = factors.to_vec(g)?;
/// assert_eq!(factors[..3], [1.0, 1.0, 1.0]); // p = 0 drops nothing
/// assert!(factors[64..67].iter().all(|&f| f == 0.0 || (f - 4.0).abs() < 1e-5)); // 1/(1 - 0.75) = 4
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If `ld` is no multiple of 64, or less than `cols`.
pub fn drop_path(
    r: &mut Recorder, state: &Tensor, stream: u32, p: &Tensor, rows: usize, cols: usize, ld: usize,
) -> Result<Tensor> {
    state.expect_shape("rng.drop_path: state", &[StepState::LEN])?;
    p.expect_shape("rng.drop_path: p", &[rows])?;
    if !ld.is_multiple_of(64) || ld < cols {
        return Err(Error::argument("rng.drop_path: ld", ld, format!("a multiple of 64, at least {cols}")));
    }
    let out = Tensor::scratch("drop_path", &[rows, ld]);
    let scalars = scalars!(Rng { n: rows * ld, stream, cols, ld });
    r.launch(&DROP_PATH, Grid::items(rows * ld / 4, 256), &scalars, &[state, p, &out])?;
    Ok(out)
}

fn draw(
    r: &mut Recorder, kernel: &'static Kernel, label: &'static str, state: &Tensor, stream: u32, shape: &[usize],
    cols: u32,
) -> Result<Tensor> {
    state.expect_shape("rng: state", &[StepState::LEN])?;
    let whole = kernel.binds.iter().any(|bind| bind.element == Element::U32);
    let out = Tensor::scratch_of(if whole { DType::U32 } else { DType::F32 }, label, shape);
    let scalars = scalars!(Rng { n: out.len(), stream, cols, ld: 0 });
    r.launch(kernel, Grid::items(out.len().div_ceil(4), 256), &scalars, &[state, &out])?;
    Ok(out)
}
