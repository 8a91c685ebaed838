//! attention: launchers and tape rules of self- and cross-attention under a region mask. Maths: `shaders/attention.wgsl`,
//! and on cooperative matrices, in mixed precision where the adapter has them, `shaders/attention_coop.wgsl`. Elsewhere, and
//! in every other precision, attention is computed in f32. What it reads and writes may be f16: all of it, or none.

mod coop;

use crate::error::{Error, Result};
use crate::gpu::{Bind, Gpu, Grid, Kernel, Launch, Precision, Work, params, wgsl};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `attention.wgsl`.
    pub struct Attention {
        lq: u32, lk: u32, heads: u32, groups: u32,
        q_row: u32, kv_row: u32, k_at: u32, v_at: u32,
        mask: u32, scale: f32,
    }
}

use Bind::{Read, Write};

const SRC: &str = wgsl!("attention", "grid", "half", "attention");
const CONSTS: &[(&str, u32)] = &[("DH", 64), ("SPLIT", 4), ("ROWS", 16), ("TILE", 8), ("ROUND", 0), ("HALF", 0)];
const FORWARD_HALVES: &[(u32, &str)] = &[(1, "HALF"), (2, "HALF"), (3, "HALF"), (8, "HALF")];
const BACKWARD_HALVES: &[(u32, &str)] = &[(1, "HALF"), (2, "HALF"), (3, "HALF"), (11, "HALF"), (12, "HALF")];
const FORWARD_BINDS: &[Bind] = &[Read(1), Read(2), Read(3), Read(4), Write(8), Write(9)];
const fn kernel(name: &'static str, binds: &'static [Bind], halves: &'static [(u32, &'static str)]) -> Kernel {
    Kernel::new::<Attention>(name, SRC, binds).consts(CONSTS).halves(halves)
}
const FORWARD: Kernel = kernel("attention.forward", FORWARD_BINDS, FORWARD_HALVES).work(|x| pairs(x, 2, 2, 4));
const WEIGHTS: Kernel =
    kernel("attention.weights", &[Read(1), Read(2), Read(4), Read(6), Write(13)], &[(1, "HALF"), (2, "HALF")]);
const BACKWARD_DELTA: Kernel =
    kernel("attention.backward_delta", &[Read(5), Read(11), Write(10)], &[(5, "HALF"), (11, "HALF")]);
const BACKWARD_BINDS: &[Bind] = &[Read(1), Read(2), Read(3), Read(4), Read(6), Read(7), Read(11), Write(12)];
const BACKWARD_DQ: Kernel =
    kernel("attention.backward_dq", BACKWARD_BINDS, BACKWARD_HALVES).work(|x| pairs(x, 3, 2, 6));
const BACKWARD_DKV: Kernel =
    kernel("attention.backward_dkv", BACKWARD_BINDS, BACKWARD_HALVES).work(|x| pairs(x, 2, 4, 8));

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[
    &FORWARD,
    &WEIGHTS,
    &BACKWARD_DELTA,
    &BACKWARD_DQ,
    &BACKWARD_DKV,
    &coop::FORWARD16,
    &coop::DQ16,
    &coop::DKV16,
    &coop::FORWARD8,
    &coop::DQ8,
    &coop::DKV8,
];

/// `rows_q` arrays (B, Lq, C) and `rows_k` (B, Lk, C) moved; so many flops per pair of tokens and column, an exponential
/// per pair and head. The table of a mask is on the device: a causal one is taken to hide half, the other all but itself.
fn pairs(launch: &Launch, rows_q: usize, rows_k: usize, flops: usize) -> Work {
    let p: Attention = launch.scalars();
    let [lq, lk, groups] = [p.lq, p.lk, p.groups].map(|size| size as usize);
    let dh = launch.constant("DH");
    let seen = match p.mask {
        mask if mask == Mask::Full as u32 => lq * lk,
        mask if mask == Mask::RegionCausal as u32 => lq * lk / 2,
        _ => lq,
    };
    let bytes = 4 - 2 * launch.constant("HALF");
    Work::of(bytes * groups * dh * (rows_q * lq + rows_k * lk), flops * groups * seen * dh, groups * seen)
}

/// Widest head: its slice of a row has to fit into registers.
pub const MAX_HEAD: usize = 128;
/// Tokens that share one (least, largest) pair in a region table.
const BLOCK: usize = 8;

/// Which keys a query sees. The diagonal is always seen, so that every query sees at least one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Every key.
    Full,
    /// Keys of the query's region and of those before it: row-causal (MAP), or token-causal with [`Regions::tokens`].
    RegionCausal,
    /// Keys of the query's region (local MAE).
    SameRegion,
}

/// The region of each token, the same for queries and keys and for all samples. Regions may come in any order.
#[derive(Debug, Clone)]
pub struct Regions {
    /// The regions (L), then (least, largest) of every eight tokens.
    table: Tensor,
    len: usize,
}

impl Regions {
    /// A table with one region per token.
    pub fn new(g: &Gpu, regions: &[u32]) -> Result<Self> {
        if regions.is_empty() {
            return Err(Error::argument("attention: regions", "no token", "at least one"));
        }
        let bounds = regions.chunks(BLOCK).flat_map(|block| {
            let (least, largest) = block.iter().fold((u32::MAX, 0), |(lo, hi), &r| (r.min(lo), r.max(hi)));
            [least, largest]
        });
        let table: Vec<u32> = regions.iter().copied().chain(bounds).collect();
        Ok(Self { table: Tensor::from_indices(g, &[table.len()], &table)?, len: regions.len() })
    }

    /// Regions = rows of an h×w grid of tokens in raster order.
    pub fn rows(g: &Gpu, h: usize, w: usize) -> Result<Self> {
        Self::new(g, &(0..h * w).map(|t| (t / w) as u32).collect::<Vec<_>>())
    }

    /// Every token its own region.
    pub fn tokens(g: &Gpu, l: usize) -> Result<Self> {
        Self::new(g, &(0..l as u32).collect::<Vec<_>>())
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a table has at least one token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The constants of a launch for heads of `dh`: a row's invocations hold at most 32 floats of each operand forward and 16
/// backward (32 past a head of 64), and tiles and parts fit into 16 KiB of workgroup memory.
pub fn tiling(dh: usize, backward: bool) -> [(&'static str, u32); 5] {
    let (split, rows, tile) = match (dh, backward) {
        (..=16, _) | (..=32, false) => (1, 64, 32),
        (..=32, true) | (..=64, false) => (2, 32, 16),
        _ => (4, 16, 8),
    };
    [("DH", dh as u32), ("SPLIT", split), ("ROWS", rows), ("TILE", tile), ("ROUND", 0)]
}

/// One of the large kernels with its constants, a workgroup of it per so many rows.
struct Step {
    kernel: &'static Kernel,
    consts: Vec<(&'static str, u32)>,
    rows: u32,
}

/// How an attention is computed.
struct Path {
    forward: Step,
    dq: Step,
    dkv: Step,
    /// Whether operands are rounded to f16.
    rounds: bool,
}

impl Path {
    /// In f32.
    fn f32(dh: usize) -> Self {
        let step = |kernel, backward| {
            let consts = tiling(dh, backward);
            let [_, _, (_, rows), _, _] = consts;
            Step { kernel, consts: consts.into(), rows }
        };
        let [forward, dq, dkv] =
            [(&FORWARD, false), (&BACKWARD_DQ, true), (&BACKWARD_DKV, true)].map(|(k, b)| step(k, b));
        Self { forward, dq, dkv, rounds: false }
    }
}

/// Softmax attention of tokens over themselves: qkv (B, L, 3C), columns q | k | v, each head-major -> (B, L, C).
pub fn self_attention(
    g: &Gpu, t: &mut Tape, qkv: &Var, heads: usize, mask: Mask, regions: Option<&Regions>,
) -> Result<Var> {
    let [b, l, columns] = qkv.data.dims("attention: qkv")?;
    let c = columns / 3;
    if columns % 3 != 0 {
        return Err(Error::argument("attention: columns of qkv", columns, "a multiple of 3"));
    }
    let columns = Columns { q_row: 3 * c, kv_row: 3 * c, k: c, v: 2 * c };
    let call = Call::new([b, l, l, c], heads, columns, mask, regions, &qkv.data, &qkv.data)?.in_precision(g);
    let (out, lse) = call.forward(g)?;
    let qkv = qkv.clone();
    Ok(t.push(g, out.clone(), move |g, dout, grads| {
        if !grads.wants(&qkv) {
            return Ok(());
        }
        let delta = call.delta(g, &out, dout)?;
        let dqkv = grads.alloc(&qkv);
        call.backward(&call.path.dq, call.p.lq, g, &lse, &delta, dout, &dqkv)?;
        call.backward(&call.path.dkv, call.p.lk, g, &lse, &delta, dout, &dqkv)?;
        grads.add(g, &qkv, dqkv)
    }))
}

/// Softmax attention of tokens over others: q (B, Lq, C), kv (B, Lk, 2C), columns k | v, each head-major -> (B, Lq, C).
/// Under a mask Lq = Lk.
pub fn cross_attention(
    g: &Gpu, t: &mut Tape, q: &Var, kv: &Var, heads: usize, mask: Mask, regions: Option<&Regions>,
) -> Result<Var> {
    let call = Call::cross(&q.data, &kv.data, heads, mask, regions)?.in_precision(g);
    let (out, lse) = call.forward(g)?;
    let (q, kv) = (q.clone(), kv.clone());
    Ok(t.push(g, out.clone(), move |g, dout, grads| {
        if !grads.wants(&q) && !grads.wants(&kv) {
            return Ok(());
        }
        let delta = call.delta(g, &out, dout)?;
        if grads.wants(&q) {
            let dq = grads.alloc(&q);
            call.backward(&call.path.dq, call.p.lq, g, &lse, &delta, dout, &dq)?;
            grads.add(g, &q, dq)?;
        }
        if grads.wants(&kv) {
            let dkv = grads.alloc(&kv);
            call.backward(&call.path.dkv, call.p.lk, g, &lse, &delta, dout, &dkv)?;
            grads.add(g, &kv, dkv)?;
        }
        Ok(())
    }))
}

/// The weights (B, H, Lq, Lk) with which [`cross_attention`] averages values, to look at: without a gradient, f32 always.
pub fn weights(
    g: &Gpu, q: &Tensor, kv: &Tensor, heads: usize, mask: Mask, regions: Option<&Regions>,
) -> Result<Tensor> {
    let call = Call::cross(q, kv, heads, mask, regions)?;
    let (_, lse) = call.forward(g)?;
    let [b, lq, _] = call.shape;
    let probs = Tensor::scratch("attention weights", &[b, heads, lq, call.p.lk as usize]);
    let consts = tiling(call.dh, false);
    let args = [q, kv, &call.table, &lse, &probs];
    g.launch_with(&WEIGHTS, &consts, Grid::items(probs.len(), 64), &call.p, &args)?;
    Ok(probs)
}

/// Where q, k and v lie in the rows of their buffers.
struct Columns {
    q_row: usize,
    kv_row: usize,
    k: usize,
    v: usize,
}

/// What all launches of one attention share.
struct Call {
    p: Attention,
    /// B, Lq, C
    shape: [usize; 3],
    dh: usize,
    q: Tensor,
    kv: Tensor,
    /// The region table, or something else to bind where no mask reads it.
    table: Tensor,
    path: Path,
}

impl Call {
    /// q (B, Lq, C), kv (B, Lk, 2C)
    fn cross(q: &Tensor, kv: &Tensor, heads: usize, mask: Mask, regions: Option<&Regions>) -> Result<Self> {
        let [b, lq, c] = q.dims("attention: q")?;
        let [_, lk, _] = kv.dims("attention: kv")?;
        kv.expect_shape("attention: kv", &[b, lk, 2 * c])?;
        let columns = Columns { q_row: c, kv_row: 2 * c, k: 0, v: c };
        Self::new([b, lq, lk, c], heads, columns, mask, regions, q, kv)
    }

    fn new(
        [b, lq, lk, c]: [usize; 4], heads: usize, columns: Columns, mask: Mask, regions: Option<&Regions>, q: &Tensor,
        kv: &Tensor,
    ) -> Result<Self> {
        let dh = c / heads.max(1);
        if heads == 0 || c % heads != 0 || !(1..=MAX_HEAD).contains(&dh) {
            let expected = format!("a divisor of {c} that leaves heads of 1 to {MAX_HEAD}");
            return Err(Error::argument("attention: heads", heads, expected));
        }
        if q.is_half() && !dh.is_multiple_of(4) {
            return Err(Error::argument("attention: columns of a head in f16", dh, "a multiple of 4"));
        }
        let table = match (mask, regions) {
            (Mask::Full, _) => q.unread(),
            (_, None) => return Err(Error::argument("attention: regions", "none", format!("a table for {mask:?}"))),
            (_, Some(regions)) if [lq, lk] != [regions.len; 2] => {
                let got = format!("{lq} queries, {lk} keys");
                return Err(Error::argument(
                    "attention: tokens",
                    got,
                    format!("{} of each, as in regions", regions.len),
                ));
            }
            (_, Some(regions)) => regions.table.clone(),
        };
        let [lq32, lk32, heads, groups] = [lq, lk, heads, b * heads].map(|n| n as u32);
        let [q_row, kv_row, k_at, v_at] = [columns.q_row, columns.kv_row, columns.k, columns.v].map(|n| n as u32);
        let scale = (dh as f32).sqrt().recip();
        let p = Attention { lq: lq32, lk: lk32, heads, groups, q_row, kv_row, k_at, v_at, mask: mask as u32, scale };
        Ok(Self { p, shape: [b, lq, c], dh, q: q.clone(), kv: kv.clone(), table, path: Path::f32(dh) })
    }

    /// On cooperative matrices if the precision asks for them and the adapter has them.
    fn in_precision(self, g: &Gpu) -> Self {
        let path = if g.precision() == Precision::Mixed { coop::path(g.caps(), self.dh) } else { None };
        Self { path: path.unwrap_or(self.path), ..self }
    }

    /// -> out (B, Lq, C), lse (B, H, Lq)
    fn forward(&self, g: &Gpu) -> Result<(Tensor, Tensor)> {
        let out = self.q.scratch_like("attention", &self.shape);
        let lse = self.per_query("attention lse");
        self.launch(g, &self.path.forward, self.p.lq, &[&self.q, &self.kv, &self.kv, &self.table, &out, &lse])?;
        Ok((out, lse))
    }

    /// dout·out of every query and head.
    fn delta(&self, g: &Gpu, out: &Tensor, dout: &Tensor) -> Result<Tensor> {
        let delta = self.per_query("attention delta");
        let mut consts = tiling(self.dh, true);
        consts[4].1 = self.path.rounds.into();
        g.launch_with(&BACKWARD_DELTA, &consts, Grid::items(delta.len(), 64), &self.p, &[out, dout, &delta])?;
        Ok(delta)
    }

    /// One side's gradients, into the columns that its values have in theirs.
    #[expect(clippy::too_many_arguments, reason = "the kernel's operands, which have one order everywhere")]
    fn backward(
        &self, step: &Step, rows: u32, g: &Gpu, lse: &Tensor, delta: &Tensor, dout: &Tensor, grad: &Tensor,
    ) -> Result<()> {
        self.launch(g, step, rows, &[&self.q, &self.kv, &self.kv, &self.table, lse, delta, dout, grad])
    }

    fn per_query(&self, label: &'static str) -> Tensor {
        Tensor::scratch(label, &[self.shape[0], self.p.heads as usize, self.shape[1]])
    }

    /// One workgroup per (b, h) and so many of `rows` as the step takes.
    fn launch(&self, g: &Gpu, step: &Step, rows: u32, args: &[&Tensor]) -> Result<()> {
        let grid = Grid::rows((self.p.groups * rows.div_ceil(step.rows)) as usize);
        g.launch_with(step.kernel, &step.consts, grid, &self.p, args)
    }
}
