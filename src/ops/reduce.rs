//! reduce: sum and mean over a whole tensor, mean over tokens, and sum over rows. Maths: `shaders/reduce.wgsl`.

use super::parts::{Rows, sum_parts};
use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `reduce.wgsl`.
    pub(crate) struct Reduce { n: u32, groups: u32, scale: f32, rows: u32, cols: u32, chunk: u32 }
}

const SRC: &str = wgsl!("reduce", "grid", "reduce", "half", "element");
const CONSTS: &[Const] = &[Const::flag("X16"), Const::flag("D16")];
const SUM: Kernel = Kernel::new::<Reduce>("reduce.sum", SRC, &[read(1, "x"), write(2, "y")])
    .subgroup(wgsl!("reduce", "grid", "reduce_subgroup", "half", "element"))
    .consts(CONSTS)
    .rounds();
const SPREAD: Kernel =
    Kernel::new::<Reduce>("reduce.spread", SRC, &[read(3, "dy"), write(4, "dx")]).consts(CONSTS).rounds();
const TOKENS: Kernel =
    Kernel::new::<Reduce>("reduce.tokens", SRC, &[read(3, "dy"), write(6, "spread_words").f16_if("D16")])
        .consts(CONSTS)
        .rounds();
const COLUMNS: Kernel = Kernel::new::<Reduce>("reduce.columns", SRC, &[read(5, "words").f16_if("X16"), write(2, "y")])
    .consts(CONSTS)
    .rounds();

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&SUM, &SPREAD, &TOKENS, &COLUMNS];

/// Elements per workgroup of the first stage, until there are [`GROUPS`] workgroups.
const SHARE: usize = 4096;
/// Most workgroups of the first stage. One workgroup of the second stage adds up their sums.
const GROUPS: usize = 1024;

/// The sum of all elements.
///
/// - Shapes: x, any → (1).
/// - PyTorch: `x.sum()`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::reduce::sum, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, 3.0, 4.0])?);
/// let mut r = Recorder::inference(g);
/// let y = sum(&mut r, &x)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [10.0]);
/// # Ok(()) });
/// ```
pub fn sum(r: &mut Recorder, x: &Var) -> Result<Var> {
    scaled(r, x, 1.0)
}

/// The mean of all elements.
///
/// - Shapes: x, any → (1).
/// - PyTorch: `x.mean()`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::reduce::mean, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, 3.0, 4.0])?);
/// let mut r = Recorder::new(g);
/// let y = mean(&mut r, &x)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [2.5]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.25; 4]);
/// # Ok(()) });
/// ```
pub fn mean(r: &mut Recorder, x: &Var) -> Result<Var> {
    scaled(r, x, 1.0 / x.data.len() as f32)
}

fn scaled(r: &mut Recorder, x: &Var, scale: f32) -> Result<Var> {
    let n = x.data.len();
    let groups = n.div_ceil(SHARE).min(GROUPS);
    let y = Tensor::scratch("reduce", &[1]);
    let p = scalars!(Reduce { n, groups, scale, rows: 0, cols: 0, chunk: 0 });
    if groups <= 1 {
        r.launch(&SUM, Grid::rows(1), &p, &[&x.data, &y])?;
    } else {
        let part = Tensor::scratch("reduce.part", &[groups]);
        r.launch(&SUM, Grid::rows(groups), &Reduce { scale: 1.0, ..p }, &[&x.data, &part])?;
        r.launch(&SUM, Grid::rows(1), &scalars!(Reduce { n: groups, groups: 1, ..p }), &[&part, &y])?;
    }
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&SPREAD, Grid::items(n, 256), &p, &[dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

/// The mean over the tokens of each sample, in f32. x may be f16, with an even D.
///
/// - Shapes: x (B, L, D) → (B, D).
/// - PyTorch: `x.mean(dim=1)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::reduce::mean_tokens, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2, 2], &[1.0, 2.0, 3.0, 6.0])?);
/// let mut r = Recorder::inference(g);
/// let y = mean_tokens(&mut r, &x)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [2.0, 4.0]);
/// # Ok(()) });
/// ```
pub fn mean_tokens(r: &mut Recorder, x: &Var) -> Result<Var> {
    let [b, l, d] = x.data.dims("mean_tokens: x")?;
    if x.data.is_f16() && !d.is_multiple_of(2) {
        return Err(Error::argument("mean_tokens: columns in f16", d, "an even number"));
    }
    let scale = 1.0 / l as f32;
    let y = Tensor::scratch("mean of tokens", &[b, d]);
    columns(r, &x.data, &y, scale)?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        let p = scalars!(Reduce { n: dx.len(), groups: 0, scale, rows: l, cols: d, chunk: 0 });
        let words = if dx.is_f16() { dx.len() / 2 } else { dx.len() };
        r.launch(&TOKENS, Grid::items(words, 256), &p, &[dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

/// Writes the sums over rows to `out`: the gradient of a bias. It has no gradient of its own.
///
/// - Shapes: x (rows, D) → `out` (D), or x (S, rows, D) → `out` (S, D). x may be f16.
/// - PyTorch: `torch.sum(x, dim=-2, out=out)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::reduce::column_sum, tape::*, tensor::Tensor};
/// let x = Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, 3.0, 6.0])?;
/// let out = Tensor::scratch("sums", &[2]);
/// let mut r = Recorder::inference(g);
/// column_sum(&mut r, &x, &out)?;
/// r.run()?;
/// assert_eq!(out.to_vec(g)?, [4.0, 8.0]);
/// # Ok(()) });
/// ```
pub fn column_sum(r: &mut Recorder, x: &Tensor, out: &Tensor) -> Result<()> {
    columns(r, x, out, 1.0)
}

/// Writes `scale` times the sums over rows to `out`.
fn columns(r: &mut Recorder, x: &Tensor, out: &Tensor, scale: f32) -> Result<()> {
    let (s, rows, cols) = match *x.shape() {
        [rows, cols] => (1, rows, cols),
        [s, rows, cols] => (s, rows, cols),
        ref other => {
            return Err(Error::argument("column_sum: x", format!("{other:?}"), "(rows, D) or (S, rows, D)"));
        }
    };
    out.expect_shape("column_sum: out", &[s, cols][3 - x.shape().len()..])?;
    // Two stages: sums over chunks of rows, then over the chunks. With √rows rows in a chunk, both loops are short.
    let chunk = if rows <= 128 { rows } else { rows.isqrt().next_multiple_of(16) };
    let chunks = rows.div_ceil(chunk.max(1));
    let p = scalars!(Reduce { n: 0, groups: 0, scale, rows, cols, chunk });
    let grid = |chunks| Grid::of(cols.div_ceil(64), chunks, s);
    if chunks <= 1 {
        return r.launch(&COLUMNS, grid(1), &p, &[x, out]);
    }
    let part = Tensor::scratch("column_sum.part", &[s, chunks, cols]);
    r.launch(&COLUMNS, grid(chunks), &Reduce { scale: 1.0, ..p }, &[x, &part])?;
    if scale == 1.0 {
        let sum = |i| Rows { at: i * chunks * cols, to: i * cols, ..Rows::dense(chunks, cols) };
        return (0..s).try_for_each(|i| sum_parts(r, &part, sum(i), out));
    }
    r.launch(&COLUMNS, grid(1), &scalars!(Reduce { rows: chunks, chunk: chunks, ..p }), &[&part, out])
}
