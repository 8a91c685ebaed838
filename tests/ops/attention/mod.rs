//! Attention: `Problem` is the data of one case, and compares it with the oracle.

mod f16;
mod invariants;
mod launches;
mod oracle;

use rowscan::Result;
use rowscan::cpu::attention::{Dims, Mask as Seen, backward, forward, weights};
use rowscan::gpu::{Gpu, Precision};
use rowscan::ops::attention::{
    AttentionMask, AttentionOptions, Regions, cross_attention, self_attention, weights as ops_weights,
};
use rowscan::tape::{Recorder, Var};

use crate::common::{
    Random, Tol, as_hardware, close, each_choice, leaf, round_to_f16, run, to_f16, to_f32, values, wide,
};

/// Tolerance in f32: sums of at most 200 products of order 1, in another order than the oracle's, and one exp that may
/// be off by a few ulp.
const TOL: Tol = Tol { rel: 1e-5, abs: 5e-6 };

/// Tolerance with f16. The oracle reads q, k, v and dout rounded as the GPU does. Each of them is multiplied by softmax
/// weights or by gradients of logits, and only the GPU rounds these factors to f16, by up to 2⁻¹¹ of themselves. So a
/// sum is off by at most 2⁻¹¹·Σ|terms|, where Σ|terms| is up to a few times the largest result. delta, the row sums of
/// out·dout, has the same error and enters dq and dk. Results stored as f16 are rounded by 2⁻¹¹ once more. The absolute
/// part of [`TOL`] is for queries that see one key, whose dq and dk are 0.
fn f16_tol(want: &[f64]) -> Tol {
    let Tol { rel, abs } = Tol::of(want, 2e-3);
    Tol { rel, abs: abs + TOL.abs }
}

/// A device that computes attention on cooperative matrices in mixed precision, if the adapter has them.
fn coop() -> Option<Gpu> {
    let found = as_hardware().filter(takes_coop);
    if found.is_none() {
        eprintln!("SKIPPED: attention on cooperative matrices (the adapter has none)");
    }
    found
}

fn takes_coop(g: &Gpu) -> bool {
    g.caps().tiers.coop && !g.caps().software
}

/// Runs `test` on every tier in f32, then in mixed precision on cooperative matrices if the adapter has them.
#[track_caller]
fn each_path(test: impl Fn(&Gpu, Precision)) {
    each_choice(|g| test(g, Precision::F32));
    if let Some(g) = coop() {
        test(&g, Precision::Mixed);
    }
}

/// One case: its sizes, mask, and f32 values of q, k, v and dout.
struct Problem {
    dim: Dims,
    mask: AttentionMask,
    regions: Vec<u32>,
    parts: [Vec<f32>; 3],
    dout: Vec<f32>,
    /// Whether the GPU stores q, k, v, out and their gradients as f16.
    f16: bool,
    precision: Precision,
}

impl Problem {
    fn new(seed: u64, [b, lq, lk, h, dh]: [usize; 5], mask: AttentionMask, regions: Vec<u32>) -> Self {
        let dim = Dims { b, lq, lk, h, dh };
        let mut random = Random::new(seed);
        let parts = [lq, lk, lk].map(|l| random.normal(b * l * h * dh));
        let dout = random.normal(b * lq * h * dh);
        Self { dim, mask, regions, parts, dout, f16: false, precision: Precision::F32 }
    }

    fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    fn options<'a>(&self, regions: Option<&'a Regions>) -> AttentionOptions<'a> {
        AttentionOptions { heads: self.dim.h, mask: self.mask, regions }
    }

    fn seen(&self) -> Seen<'_> {
        match self.mask {
            AttentionMask::Full => Seen::Full,
            AttentionMask::RegionCausal => Seen::RegionCausal(&self.regions, &self.regions),
            AttentionMask::SameRegion => Seen::SameRegion(&self.regions, &self.regions),
        }
    }

    /// The parts that `of` lists (0 for q, 1 for k, 2 for v) side by side: (B, L, of.len()·C).
    fn join(&self, of: &[usize], l: usize) -> Vec<f32> {
        let c = self.dim.h * self.dim.dh;
        let token = |t: usize| of.iter().flat_map(move |&i| &self.parts[i][t * c..][..c]);
        (0..self.dim.b * l).flat_map(token).copied().collect()
    }

    fn leaf(&self, g: &Gpu, of: &[usize], l: usize) -> Var {
        leaf(g, &[self.dim.b, l, of.len() * self.dim.h * self.dim.dh], &self.join(of, l))
    }

    fn table(&self, g: &Gpu) -> Option<Regions> {
        (self.mask != AttentionMask::Full).then(|| Regions::new(g, &self.regions).unwrap())
    }

    /// Self-attention of q | k | v in one tensor: (out, dqkv).
    fn run_self(&self, g: &Gpu) -> (Vec<f32>, Vec<f32>) {
        let table = self.table(g);
        let qkv = self.leaf(g, &[0, 1, 2], self.dim.lq);
        let (out, mut grads) = run(g, &[qkv], &self.dout, |r, v| {
            r.set_precision(self.precision);
            let qkv = self.stored(r, &v[0])?;
            let out = self_attention(r, &qkv, self.options(table.as_ref()))?;
            self.unstored(r, out)
        });
        (out, grads.remove(0))
    }

    fn stored(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        if self.f16 { to_f16(r, x) } else { Ok(x.clone()) }
    }

    fn unstored(&self, r: &mut Recorder, out: Var) -> Result<Var> {
        assert_eq!(out.data.is_f16(), self.f16);
        if self.f16 { to_f32(r, &out) } else { Ok(out) }
    }

    /// Compares with q, k, v, out and their gradients stored as f16.
    fn check_f16_storage(mut self, g: &Gpu) {
        self.parts.iter_mut().chain([&mut self.dout]).for_each(|values| round_to_f16(values));
        self.f16 = true;
        self.compare(g, wide, f16_tol);
    }

    fn check(&self, g: &Gpu, tol: Tol) {
        self.compare(g, wide, |_| tol);
    }

    /// Compares in mixed precision, where cooperative matrices read f32 tensors rounded to f16.
    fn check_mixed(self, g: &Gpu) {
        let read = |x: &[f32]| x.iter().map(|&x| half::f16::from_f32(x).to_f64()).collect();
        self.in_precision(Precision::Mixed).compare(g, read, f16_tol);
    }

    /// Compares self-attention, cross-attention and the softmax weights with the oracle, forward and every gradient.
    /// The oracle gets the operands through `read`, which rounds as the GPU does; `tol` is the tolerance of a result.
    fn compare(&self, g: &Gpu, read: impl Fn(&[f32]) -> Vec<f64>, tol: impl Fn(&[f64]) -> Tol) {
        let [q, k, v] = self.parts.each_ref().map(|x| read(x));
        let scale = (self.dim.dh as f64).sqrt().recip();
        let want = forward(self.dim, &q, &k, &v, scale, self.seen());
        let grads = backward(self.dim, &q, &k, &v, scale, self.seen(), &read(&self.dout));
        let wants = [&grads.dq, &grads.dk, &grads.dv];
        let name = format!("{:?} {:?}", self.mask, self.dim);
        let check = |kind: &str, of: &[usize], got: &[f32]| {
            let c = self.dim.h * self.dim.dh;
            for (at, &i) in of.iter().enumerate() {
                let rows = got.chunks_exact(of.len() * c);
                let part: Vec<f32> = rows.flat_map(|row| &row[at * c..][..c]).copied().collect();
                close(&format!("{name} {kind} d{}", ["q", "k", "v"][i]), &part, wants[i], tol(wants[i]));
            }
        };
        if self.dim.lq == self.dim.lk {
            let (out, dqkv) = self.run_self(g);
            close(&format!("{name} self out"), &out, &want.out, tol(&want.out));
            check("self", &[0, 1, 2], &dqkv);
        }
        let table = self.table(g);
        let leaves = [self.leaf(g, &[0], self.dim.lq), self.leaf(g, &[1, 2], self.dim.lk)];
        let (out, found) = run(g, &leaves, &self.dout, |r, v| {
            r.set_precision(self.precision);
            let (q, kv) = (self.stored(r, &v[0])?, self.stored(r, &v[1])?);
            let out = cross_attention(r, &q, &kv, self.options(table.as_ref()))?;
            self.unstored(r, out)
        });
        close(&format!("{name} cross out"), &out, &want.out, tol(&want.out));
        check("cross", &[0], &found[0]);
        check("cross", &[1, 2], &found[1]);
        let seen = values(g, |r| {
            r.set_precision(self.precision);
            let (q, kv) = (self.stored(r, &leaves[0])?, self.stored(r, &leaves[1])?);
            ops_weights(r, &q.data, &kv.data, self.options(table.as_ref()))
        });
        let want = weights(self.dim, &wide(&self.parts[0]), &wide(&self.parts[1]), scale, self.seen());
        // f32 in every precision, from operands that mixed precision does not round
        let tol = if self.precision == Precision::Mixed { TOL } else { tol(&want) };
        close(&format!("{name} weights"), &seen, &want, tol);
    }
}

/// The region of each token if regions are rows of a grid that is `width` patches wide.
fn rows(l: usize, width: usize) -> Vec<u32> {
    (0..l).map(|t| (t / width) as u32).collect()
}

/// A region of its own for each token, so that `RegionCausal` is the causal mask of a language model.
fn tokens(l: usize) -> Vec<u32> {
    rows(l, 1)
}
