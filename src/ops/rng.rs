//! rng: launchers of random tensors that a replay draws anew each step. Convention: `shaders/rng.wgsl`.
//!
//! `state` is a [`StepState`](super::step::StepState): its seed, step and part, with the caller's `stream`, determine
//! the draw.

use crate::error::{Error, Result};
use crate::gpu::{Bind, DType, Element, Grid, Kernel, params, read, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `rng.wgsl`.
    pub struct Rng { n: u32, stream: u32, cols: u32, ld: u32 }
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
pub const KERNELS: &[&Kernel] = &[&WORDS, &BELOW, &UNIFORM, &NORMAL, &DROP_PATH];

/// Random u32 words.
pub fn words(r: &mut Recorder, state: &Tensor, stream: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &WORDS, "random words", state, stream, shape, 0)
}

/// Whole numbers in 0..`bound`, u32; some are more likely than others by `bound`/2³².
pub fn below(r: &mut Recorder, state: &Tensor, stream: u32, bound: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &BELOW, "random numbers", state, stream, shape, bound)
}

/// Uniform in [0, 1), multiples of 2^-24.
pub fn uniform(r: &mut Recorder, state: &Tensor, stream: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &UNIFORM, "uniform", state, stream, shape, 0)
}

/// Standard normal.
pub fn normal(r: &mut Recorder, state: &Tensor, stream: u32, shape: &[usize]) -> Result<Tensor> {
    draw(r, &NORMAL, "normal", state, stream, shape, 0)
}

/// DropPath factors (rows, ld): row r holds `cols` draws of 1/(1-p) with probability 1-p for the row's p, else 0; then
/// zeros.
/// `p` (rows) is the drop probability; `ld` is a multiple of 64, so that a row can be bound on its own.
pub fn drop_path(
    r: &mut Recorder, state: &Tensor, stream: u32, p: &Tensor, rows: usize, cols: usize, ld: usize,
) -> Result<Tensor> {
    state.expect_shape("rng.drop_path: state", &[8])?;
    p.expect_shape("rng.drop_path: p", &[rows])?;
    if !ld.is_multiple_of(64) || ld < cols {
        return Err(Error::argument("rng.drop_path: ld", ld, format!("a multiple of 64, at least {cols}")));
    }
    let out = Tensor::scratch("drop_path", &[rows, ld]);
    let scalars = Rng { n: (rows * ld) as u32, stream, cols: cols as u32, ld: ld as u32 };
    r.launch(&DROP_PATH, Grid::items(rows * ld / 4, 256), &scalars, &[state, p, &out])?;
    Ok(out)
}

fn draw(
    r: &mut Recorder, kernel: &'static Kernel, label: &'static str, state: &Tensor, stream: u32, shape: &[usize],
    cols: u32,
) -> Result<Tensor> {
    state.expect_shape("rng: state", &[8])?;
    let whole = kernel.binds.iter().any(|bind| bind.element == Element::U32);
    let out = Tensor::scratch_of(if whole { DType::U32 } else { DType::F32 }, label, shape);
    let scalars = Rng { n: out.len() as u32, stream, cols, ld: 0 };
    r.launch(kernel, Grid::items(out.len().div_ceil(4), 256), &scalars, &[state, &out])?;
    Ok(out)
}
