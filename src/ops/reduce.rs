//! reduce: sum and mean over everything and means over tokens with their tape rules, sums over rows. Maths:
//! `shaders/reduce.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `reduce.wgsl`.
    pub struct Reduce { n: u32, groups: u32, scale: f32, rows: u32, cols: u32, chunk: u32 }
}

const SRC: &str = wgsl!("reduce", "grid", "reduce", "element");
const CONSTS: &[Const] = &[Const::flag("X16")];
const SUM: Kernel = Kernel::new::<Reduce>("reduce.sum", SRC, &[read(1, "x"), write(2, "y")])
    .subgroup(wgsl!("reduce", "grid", "reduce_subgroup", "element"))
    .consts(CONSTS);
const SPREAD: Kernel = Kernel::new::<Reduce>("reduce.spread", SRC, &[read(3, "dy"), write(4, "dx")]).consts(CONSTS);
const TOKENS: Kernel = Kernel::new::<Reduce>("reduce.tokens", SRC, &[read(3, "dy"), write(4, "dx")]).consts(CONSTS);
const COLUMNS: Kernel =
    Kernel::new::<Reduce>("reduce.columns", SRC, &[read(5, "words").f16_if("X16"), write(2, "y")]).consts(CONSTS);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&SUM, &SPREAD, &TOKENS, &COLUMNS];

/// Elements that one workgroup sums at least, and workgroups of the first stage at most.
const SHARE: usize = 4096;
const GROUPS: usize = 1024;

/// Σ x over any shape -> \[1\].
pub fn sum(r: &mut Recorder, x: &Var) -> Result<Var> {
    scaled(r, x, 1.0)
}

/// Σ x / n over any shape -> \[1\].
pub fn mean(r: &mut Recorder, x: &Var) -> Result<Var> {
    scaled(r, x, 1.0 / x.data.len() as f32)
}

fn scaled(r: &mut Recorder, x: &Var, scale: f32) -> Result<Var> {
    let n = x.data.len();
    let groups = n.div_ceil(SHARE).min(GROUPS);
    let y = Tensor::scratch("reduce", &[1]);
    let p = Reduce { n: n as u32, groups: groups as u32, scale, rows: 0, cols: 0, chunk: 0 };
    if groups <= 1 {
        r.launch(&SUM, Grid::rows(1), &p, &[&x.data, &y])?;
    } else {
        let part = Tensor::scratch("reduce.part", &[groups]);
        r.launch(&SUM, Grid::rows(groups), &Reduce { scale: 1.0, ..p }, &[&x.data, &part])?;
        r.launch(&SUM, Grid::rows(1), &Reduce { n: groups as u32, groups: 1, ..p }, &[&part, &y])?;
    }
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&SPREAD, Grid::items(n, 256), &p, &[dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

/// The mean over the tokens of each sample: x (B, L, D) -> (B, D).
pub fn mean_tokens(r: &mut Recorder, x: &Var) -> Result<Var> {
    let [b, l, d] = x.data.dims("mean_tokens: x")?;
    let scale = 1.0 / l as f32;
    let y = Tensor::scratch("mean of tokens", &[b, d]);
    columns(r, &x.data, &y, scale)?;
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        let p = Reduce { n: dx.len() as u32, groups: 0, scale, rows: l as u32, cols: d as u32, chunk: 0 };
        r.launch(&TOKENS, Grid::items(dx.len(), 256), &p, &[dy, &dx])?;
        grads.add(r, &x, dx)
    }))
}

/// Launches the sums over rows: x (rows, D) -> out (D), or x (S, rows, D) -> out (S, D).
pub fn column_sum(r: &mut Recorder, x: &Tensor, out: &Tensor) -> Result<()> {
    columns(r, x, out, 1.0)
}

/// Launches `scale` times the sums over rows.
fn columns(r: &mut Recorder, x: &Tensor, out: &Tensor, scale: f32) -> Result<()> {
    let (s, rows, cols) = match *x.shape() {
        [rows, cols] => (1, rows, cols),
        [s, rows, cols] => (s, rows, cols),
        ref other => {
            return Err(Error::argument("column_sum: x", format!("{other:?}"), "(rows, D) or (S, rows, D)"));
        }
    };
    out.expect_shape("column_sum: out", &[s, cols][3 - x.shape().len()..])?;
    // about as many chunks as rows in a chunk: neither stage is long
    let chunk = if rows <= 128 { rows } else { rows.isqrt().next_multiple_of(16) };
    let chunks = rows.div_ceil(chunk.max(1));
    let p = Reduce { n: 0, groups: 0, scale, rows: rows as u32, cols: cols as u32, chunk: chunk as u32 };
    let grid = |chunks| Grid::of(cols.div_ceil(64), chunks, s);
    if chunks <= 1 {
        return r.launch(&COLUMNS, grid(1), &p, &[x, out]);
    }
    let part = Tensor::scratch("column_sum.part", &[s, chunks, cols]);
    r.launch(&COLUMNS, grid(chunks), &Reduce { scale: 1.0, ..p }, &[x, &part])?;
    r.launch(&COLUMNS, grid(1), &Reduce { rows: chunks as u32, chunk: chunks as u32, ..p }, &[&part, out])
}
