//! tokens: the visible tokens of a masked image, their positions, and mask tokens, as in MAE. Shapes and maths:
//! `shaders/tokens.wgsl`.
//!
//! Two tables of u32 describe a mask of L tokens with V visible ones. `ids` (B, V) holds the token of each visible row:
//! MAE's `ids_keep`. `inv` (B, L) is its inverse: the visible row of each token, and u32::MAX where the token is
//! masked. In place of u32::MAX any number from V on will do, so MAE's `ids_restore` is an `inv` too.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `tokens.wgsl`.
    pub(crate) struct Tokens { n: u32, dst_rows: u32, src_rows: u32, d: u32, rows: u32, per: u32, indices: u32 }
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    const CONSTS: &[Const] = &[Const::flag("S16"), Const::flag("D16")];
    Kernel::new::<Tokens>(name, wgsl!("tokens", "grid", "half", "element"), binds).consts(CONSTS).rounds()
}
const INDEXED: &[Bind] = &[read(1, "src"), read(2, "at").u32(), write(5, "dst")];

const TAKE: Kernel =
    kernel("tokens.take", &[read(1, "src").f16_if("S16"), read(2, "at").u32(), write(5, "dst").f16_if("D16")])
        .least(taken);
const EMBED: Kernel = kernel("tokens.embed", &[read(1, "src"), read(2, "at").u32(), read(3, "table"), write(5, "dst")]);
const POSITIONS: Kernel = kernel("tokens.positions", &[read(1, "src"), read(3, "table"), write(5, "dst")]);
const RESTORE: Kernel = kernel(
    "tokens.restore",
    &[read(1, "src").f16_if("S16"), read(2, "at").u32(), read(3, "table"), read(4, "mask_token"), write(5, "dst")],
);
const SUM_ROWS: Kernel = kernel("tokens.sum_rows", &[read(1, "src"), write(5, "dst")]);
const SUM_MASKED: Kernel = kernel("tokens.sum_masked", INDEXED);
const SUM_VISIBLE: Kernel = kernel("tokens.sum_visible", INDEXED);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&TAKE, &EMBED, &POSITIONS, &RESTORE, &SUM_ROWS, &SUM_MASKED, &SUM_VISIBLE];

/// Least work: each row of the result is written, and at most as many rows are read as `src` or `dst` has.
fn taken(launch: &LaunchArgs<'_>) -> Work {
    let [src, ids, dst] = ["src", "at", "dst"].map(|arg| launch.len(arg));
    Work::bytes(launch.bytes_of("S16") * src.min(dst) + 4 * ids + launch.bytes_of("D16") * dst)
}

/// The visible tokens: row v of the result is row `ids[v]` of x. The result has the element type of x, for which f16
/// needs an even D.
///
/// - Shapes: x (B, L, D), `ids` (B, V), `inv` (B, L) → (B, V, D). Tables (V) and (L) serve all samples.
/// - MAE: `torch.gather(x, dim=1, index=ids_keep.unsqueeze(-1).repeat(1, 1, D))` in `random_masking`.
/// - Source: He et al. 2022 (MAE).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::tokens::gather, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 3, 1], &[1.0, 2.0, 3.0])?);
/// let ids = Tensor::from_indices(g, &[1, 2], &[2, 0])?; // token 1 is masked
/// let inv = Tensor::from_indices(g, &[1, 3], &[1, u32::MAX, 0])?;
/// # let mut r = Recorder::new(g);
/// let y = gather(&mut r, &x, &ids, &inv)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [3.0, 1.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [1.0, 0.0, 1.0]);
/// # Ok(()) });
/// ```
pub fn gather(r: &mut Recorder, x: &Var, ids: &Tensor, inv: &Tensor) -> Result<Var> {
    let [b, l, d] = x.data.dims("tokens.gather: x")?;
    let v = ids.shape().last().copied().unwrap_or(0);
    let shared = usize::from(ids.shape().len() == 1);
    ids.expect_shape("tokens.gather: ids", &[b, v][shared..])?;
    inv.expect_shape("tokens.gather: inv", &[b, l][shared..])?;
    let out = x.data.scratch_like("gather", &[b, v, d]);
    take(r, &x.data, ids, &out)?;
    let inv = inv.clone();
    Ok(r.push(x, out, move |r, x, dout, grads| {
        let dx = grads.alloc(&x);
        take(r, dout, &inv, &dx)?;
        grads.add(r, &x, dx)
    }))
}

/// Visible tokens plus the embeddings of their positions: row v of the result is row v of x plus row `ids[v]` of the
/// table.
///
/// - Shapes: x (B, V, D), `table` (L, D) or (1, L, D), `ids` (B, V), `inv` (B, L) → (B, V, D).
/// - PyTorch: `x + table[ids]`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::tokens::embed, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2, 1], &[3.0, 1.0])?);
/// let table = Var::leaf(Tensor::from_slice(g, &[3, 1], &[10.0, 20.0, 30.0])?);
/// let ids = Tensor::from_indices(g, &[1, 2], &[2, 0])?;
/// let inv = Tensor::from_indices(g, &[1, 3], &[1, u32::MAX, 0])?;
/// let mut r = Recorder::inference(g);
/// let y = embed(&mut r, &x, &table, &ids, &inv)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [33.0, 11.0]);
/// # Ok(()) });
/// ```
pub fn embed(r: &mut Recorder, x: &Var, table: &Var, ids: &Tensor, inv: &Tensor) -> Result<Var> {
    let [b, v, d] = x.data.dims("tokens.embed: x")?;
    let [_, l] = inv.dims("tokens.embed: inv")?;
    ids.expect_shape("tokens.embed: ids", &[b, v])?;
    inv.expect_shape("tokens.embed: inv", &[b, l])?;
    rows("tokens.embed: table", &table.data, l, d)?;
    let out = Tensor::scratch("embed", &[b, v, d]);
    r.launch(&EMBED, items(&out), &sizes(&out, l), &[&x.data, ids, &table.data, &out])?;
    let inv = inv.clone();
    Ok(r.push((x, table), out, move |r, (x, table), dout, grads| {
        if grads.wants(&table) {
            let dtable = grads.alloc(&table);
            let p = scalars!(Tokens { n: 0, dst_rows: l, src_rows: v, d, rows: b, per: 0, indices: 0 });
            sum(r, &SUM_VISIBLE, p, &[dout, &inv], &dtable)?;
            grads.add(r, &table, dtable)?;
        }
        grads.add(r, &x, dout.clone()) // last, because dout may become dx without a copy
    }))
}

/// All tokens plus the embeddings of their positions.
///
/// - Shapes: x (B, L, D), `table` (L, D) or (1, L, D) → (B, L, D).
/// - timm: `x + self.pos_embed`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::tokens::add_positions, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 2, 1], &[1.0, 2.0, 3.0, 4.0])?);
/// let table = Var::leaf(Tensor::from_slice(g, &[2, 1], &[10.0, 20.0])?);
/// let mut r = Recorder::new(g);
/// let y = add_positions(&mut r, &x, &table)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [11.0, 22.0, 13.0, 24.0]);
/// assert_eq!(grads.get(&table).unwrap().to_vec(g)?, [2.0, 2.0]); // the sum over two samples
/// # Ok(()) });
/// ```
pub fn add_positions(r: &mut Recorder, x: &Var, table: &Var) -> Result<Var> {
    let [b, l, d] = x.data.dims("tokens.add_positions: x")?;
    rows("tokens.add_positions: table", &table.data, l, d)?;
    let out = Tensor::scratch("add_positions", &[b, l, d]);
    r.launch(&POSITIONS, items(&out), &sizes(&out, l), &[&x.data, &table.data, &out])?;
    Ok(r.push((x, table), out, move |r, (x, table), dout, grads| {
        if grads.wants(&table) {
            let dtable = grads.alloc(&table);
            sum_samples(r, dout, &dtable)?;
            grads.add(r, &table, dtable)?;
        }
        grads.add(r, &x, dout.clone()) // last, because dout may become dx without a copy
    }))
}

/// Visible tokens at their places, mask tokens at the others, and the embeddings of positions added to all: the input
/// of MAE's decoder. x may be f16, with an even D; the result is f32.
///
/// - Shapes: x (B, V, D), `mask_token` (D) or (1, 1, D), `table` (L, D) or (1, L, D), `ids` (B, V), `inv` (B, L)
///   → (B, L, D).
/// - MAE: `torch.gather(torch.cat([x, mask_tokens], dim=1), dim=1, index=ids_restore…) + decoder_pos_embed` in
///   `forward_decoder`.
/// - Source: He et al. 2022 (MAE).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::tokens::restore, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2, 1], &[3.0, 1.0])?); // tokens 2 and 0
/// let ids = Tensor::from_indices(g, &[1, 2], &[2, 0])?;
/// let inv = Tensor::from_indices(g, &[1, 3], &[1, u32::MAX, 0])?;
/// let mask_token = Var::leaf(Tensor::from_slice(g, &[1], &[9.0])?);
/// let table = Var::leaf(Tensor::from_slice(g, &[3, 1], &[10.0, 20.0, 30.0])?);
/// # let mut r = Recorder::inference(g);
/// let y = restore(&mut r, &x, &mask_token, &table, &ids, &inv)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [11.0, 29.0, 33.0]);
/// # Ok(()) });
/// ```
pub fn restore(r: &mut Recorder, x: &Var, mask_token: &Var, table: &Var, ids: &Tensor, inv: &Tensor) -> Result<Var> {
    let [b, v, d] = x.data.dims("tokens.restore: x")?;
    let [_, l] = inv.dims("tokens.restore: inv")?;
    ids.expect_shape("tokens.restore: ids", &[b, v])?;
    inv.expect_shape("tokens.restore: inv", &[b, l])?;
    rows("tokens.restore: mask_token", &mask_token.data, 1, d)?;
    rows("tokens.restore: table", &table.data, l, d)?;
    let out = Tensor::scratch("restore", &[b, l, d]);
    r.launch(&RESTORE, items(&out), &sizes(&out, v), &[&x.data, inv, &table.data, &mask_token.data, &out])?;
    let (ids, inv) = (ids.clone(), inv.clone());
    Ok(r.push((x, mask_token, table), out, move |r, (x, mask_token, table), dout, grads| {
        if grads.wants(&table) {
            let dtable = grads.alloc(&table);
            sum_samples(r, dout, &dtable)?;
            grads.add(r, &table, dtable)?;
        }
        if grads.wants(&mask_token) {
            let dtoken = grads.alloc(&mask_token);
            let p = scalars!(Tokens { n: 0, dst_rows: 1, src_rows: v, d, rows: b * l, per: 0, indices: 0 });
            sum(r, &SUM_MASKED, p, &[dout, &inv], &dtoken)?;
            grads.add(r, &mask_token, dtoken)?;
        }
        if !grads.wants(&x) {
            return Ok(());
        }
        let dx = grads.alloc(&x);
        take(r, dout, &ids, &dx)?;
        grads.add(r, &x, dx)
    }))
}

/// Launches dst (B, n, D) ← rows `at` (B, n) or (n) of src (B, _, D).
fn take(r: &mut Recorder, src: &Tensor, at: &Tensor, dst: &Tensor) -> Result<()> {
    let p = scalars!(Tokens { indices: at.len(), ..sizes(dst, src.shape()[1]) });
    if dst.is_f16() && !p.d.is_multiple_of(2) {
        return Err(Error::argument("tokens: columns in f16", p.d, "an even number"));
    }
    let words = if dst.is_f16() { dst.len() / 2 } else { dst.len() };
    r.launch(&TAKE, Grid::items(words, 256), &p, &[src, at, dst])
}

/// Launches dst (L, D) ← Σ_b dout (B, L, D).
pub(super) fn sum_samples(r: &mut Recorder, dout: &Tensor, dst: &Tensor) -> Result<()> {
    let [b, l, d] = dout.dims("tokens: dout")?;
    let p = scalars!(Tokens { n: 0, dst_rows: l, src_rows: 0, d, rows: b, per: 0, indices: 0 });
    sum(r, &SUM_ROWS, p, &[dout], dst)
}

/// Launches the sum of `p.rows` rows into dst. Many rows are summed in parts of `per` rows, and then the parts are
/// summed: enough invocations for a GPU, and a fixed order.
fn sum(r: &mut Recorder, kernel: &'static Kernel, p: Tokens, inputs: &[&Tensor], dst: &Tensor) -> Result<()> {
    const INVOCATIONS: usize = 65_536;
    let (rows, width) = (p.rows as usize, (p.dst_rows * p.d) as usize);
    let per = if rows <= 64 { rows } else { (rows * width).div_ceil(INVOCATIONS).clamp(32, rows) };
    let parts = rows.div_ceil(per);
    let p = scalars!(Tokens { n: parts * width, per, ..p });
    let grid = Grid::items(parts * width, 256);
    if parts == 1 {
        return r.launch(kernel, grid, &p, &[inputs, &[dst]].concat());
    }
    let part = Tensor::scratch("tokens part", &[parts, width]);
    r.launch(kernel, grid, &p, &[inputs, &[&part]].concat())?;
    sum(r, &SUM_ROWS, scalars!(Tokens { rows: parts, ..p }), &[&part], dst)
}

fn items(dst: &Tensor) -> Grid {
    Grid::items(dst.len(), 256)
}

/// Scalars of a launch that writes dst and whose `src` has `src_rows` rows per sample.
fn sizes(dst: &Tensor, src_rows: usize) -> Tokens {
    let (dst_rows, d) = (dst.shape()[1], dst.shape()[2]);
    scalars!(Tokens { n: dst.len(), dst_rows, src_rows, d, rows: 0, per: 0, indices: 0 })
}

/// An error unless the tensor is a matrix of these sizes. It may have leading dimensions of 1.
fn rows(what: &str, tensor: &Tensor, rows: usize, d: usize) -> Result<()> {
    if tensor.rows_cols() == (rows, d) {
        return Ok(());
    }
    Err(Error::argument(what.to_owned(), format!("{:?}", tensor.shape()), format!("({rows}, {d})")))
}
