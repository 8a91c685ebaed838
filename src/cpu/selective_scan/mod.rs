//! The selective scan of Mamba-1, in S directions over one sequence, gated and averaged (mamba_ssm: the mean over
//! directions of `selective_scan_fn`, whose reference is `selective_scan_ref`).
//!
//! ```text
//!   u, delta (S, B, L, E), delta before softplus   xdbl (S, B, L, R+2N): dt | B | C   a_log (S, E, N)
//!   d, delta_bias (S, E)   z (B, L, E)   out (B, L, E)   y (S, B, L, E)   last_state (S, B, E, N)
//!   δ = softplus(delta + delta_bias)    A = -exp(a_log)
//!   h_t = exp(δ·A)·h_{t-1} + δ·B·u,  h before the first step is 0     y = Σ_n C·h + d·u     out = 1/S·Σ_s y·SiLU(z)
//! ```
//! Direction 0 runs over t = 0, 1, …, L-1 and direction 1 over t = L-1, …, 0. All arrays stay in image order.
//!
//! Backward, with g = dout/S, gy = g·SiLU(z), and λ_t = gy·C + (exp(δ·A)·λ) of the step after t:
//! ```text
//!   p = exp(δ·A)·h_{t-1} = h - δ·u·B
//!   dz = Σ_s g·y·SiLU'(z)    du = d·gy + δ·Σ_n λ·B    dd = Σ_bt gy·u
//!   ddelta = (u·Σ_n λ·B + Σ_n λ·A·p)·softplus'    ddelta_bias = Σ_bt ddelta
//!   da_log = A·Σ_bt λ·δ·p    dB = Σ_e λ·δ·u    dC = Σ_e gy·h
//! ```
use super::activation::{dsilu, dsoftplus, silu, softplus};

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Directions S, 1 or 2.
    pub s: usize,
    /// Samples B.
    pub b: usize,
    /// Tokens L.
    pub l: usize,
    /// Channels E.
    pub e: usize,
    /// States N of a channel.
    pub n: usize,
    /// Leading columns R of xdbl (dt), which the scan does not read.
    pub r: usize,
}

/// Inputs of the scan; the names are those of the formulae above.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// (S, B, L, E)
    pub u: &'a [f64],
    /// (S, B, L, E), before bias and softplus
    pub delta: &'a [f64],
    /// (S, B, L, R+2N)
    pub xdbl: &'a [f64],
    /// (S, E, N)
    pub a_log: &'a [f64],
    /// (S, E); 0 if absent
    pub d: Option<&'a [f64]>,
    /// (S, E); 0 if absent
    pub delta_bias: Option<&'a [f64]>,
    /// (B, L, E); no gate if absent
    pub z: Option<&'a [f64]>,
    /// Whether δ = softplus(delta + delta_bias); otherwise δ = delta + delta_bias
    pub softplus: bool,
}

/// Results of [`forward`].
pub struct Out {
    /// (B, L, E)
    pub out: Vec<f64>,
    /// (S, B, L, E), before the gate
    pub y: Vec<f64>,
    /// (S, B, E, N), h after the last step of each direction
    pub last_state: Vec<f64>,
}

/// Sizes of states along the path of a scan.
pub struct Path {
    /// (S, B, L): ‖h_t‖ over channels and states, t in image order.
    pub size: Vec<f64>,
    /// (S, B, L, L): ‖what token s wrote into the state, as it is left at t‖. Row s, column t; 0 where t is before s.
    pub left: Vec<f64>,
}

/// Gradients of [`forward`]. Gradients of absent inputs have full size too, except `dz`.
pub struct Grads {
    /// (S, B, L, E)
    pub du: Vec<f64>,
    /// (S, B, L, E)
    pub ddelta: Vec<f64>,
    /// (S, B, L, R+2N), zero in columns 0..R
    pub dxdbl: Vec<f64>,
    /// (S, E, N)
    pub da_log: Vec<f64>,
    /// (S, E)
    pub dd: Vec<f64>,
    /// (S, E)
    pub ddelta_bias: Vec<f64>,
    /// (B, L, E), empty without z
    pub dz: Vec<f64>,
}

/// Returns out, y and last_state.
pub fn forward(dim: Dims, x: &Inputs) -> Out {
    let Dims { s, b, l, e, n, .. } = dim;
    let (out, y, last_state) = (vec![0.0; b * l * e], vec![0.0; s * b * l * e], Vec::with_capacity(s * b * e * n));
    let mut o = Out { out, y, last_state };
    for [s, b, e] in dim.lanes() {
        let lane = Lane::scan(dim, x, [s, b, e]);
        for t in 0..l {
            let i = (b * l + t) * dim.e + e;
            o.out[i] += lane.y[t] * x.z.map_or(1.0, |z| silu(z[i])) / dim.s as f64;
            o.y[((s * dim.b + b) * l + t) * dim.e + e] = lane.y[t];
        }
        o.last_state.extend(&lane.h[dim.step(s, l - 1)]);
    }
    o
}

/// How large the state is after each token, and how much of it each token before has left. h is a sum over the tokens
/// so far: token s adds δ·B·u, and every later t multiplies that by exp(δ·A).
pub fn path(dim: Dims, x: &Inputs) -> Path {
    let l = dim.l;
    let mut path = Path { size: vec![0.0; dim.s * dim.b * l], left: vec![0.0; dim.s * dim.b * l * l] };
    let square = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
    for [s, b, e] in dim.lanes() {
        let lane = Lane::scan(dim, x, [s, b, e]);
        let row = |t: usize| (s * dim.b + b) * l + t;
        for i in 0..l {
            let from = dim.step(s, i);
            path.size[row(from)] += square(&lane.h[from]);
            let mut wrote: Vec<f64> =
                (0..dim.n).map(|n| lane.delta[from] * x.xdbl[dim.bc(row(from), n).0] * lane.u[from]).collect();
            for j in i..l {
                let t = dim.step(s, j);
                if j > i {
                    wrote.iter_mut().zip(&lane.a).for_each(|(v, a)| *v *= (lane.delta[t] * a).exp());
                }
                path.left[row(from) * l + t] += square(&wrote);
            }
        }
    }
    path.size.iter_mut().chain(&mut path.left).for_each(|v| *v = v.sqrt());
    path
}

/// Gradients of all inputs from dout (B, L, E).
#[expect(clippy::needless_range_loop, reason = "n runs over five arrays, as in the formulae")]
pub fn backward(dim: Dims, x: &Inputs, dout: &[f64]) -> Grads {
    let zeros = |like: &[f64]| vec![0.0; like.len()];
    let mut g = Grads {
        du: zeros(x.u),
        ddelta: zeros(x.u),
        dxdbl: zeros(x.xdbl),
        da_log: zeros(x.a_log),
        dd: vec![0.0; dim.s * dim.e],
        ddelta_bias: vec![0.0; dim.s * dim.e],
        dz: zeros(x.z.unwrap_or(&[])),
    };
    for [s, b, e] in dim.lanes() {
        let lane = Lane::scan(dim, x, [s, b, e]);
        let (se, d) = (s * dim.e + e, x.d.map_or(0.0, |d| d[s * dim.e + e]));
        let mut carry = vec![0.0; dim.n]; // exp(δ·A)·λ of the step after t
        for t in (0..dim.l).rev().map(|i| dim.step(s, i)) {
            let (row, out) = ((s * dim.b + b) * dim.l + t, (b * dim.l + t) * dim.e + e);
            let (u, delta, dout) = (lane.u[t], lane.delta[t], dout[out] / dim.s as f64);
            let gy = dout * x.z.map_or(1.0, |z| silu(z[out]));
            if let Some(z) = x.z {
                g.dz[out] += dout * lane.y[t] * dsilu(z[out]);
            }
            let (mut lambda_b, mut lambda_ap) = (0.0, 0.0);
            for n in 0..dim.n {
                let (a, h) = (lane.a[n], lane.h[t][n]);
                let (bi, ci) = dim.bc(row, n);
                let lambda = gy * x.xdbl[ci] + carry[n];
                let p = h - delta * u * x.xdbl[bi];
                lambda_b += lambda * x.xdbl[bi];
                lambda_ap += lambda * a * p;
                g.da_log[se * dim.n + n] += lambda * delta * p * a;
                g.dxdbl[bi] += lambda * delta * u;
                g.dxdbl[ci] += gy * h;
                carry[n] = (delta * a).exp() * lambda;
            }
            let slope = if x.softplus { dsoftplus(lane.raw[t]) } else { 1.0 };
            let ddelta = (u * lambda_b + lambda_ap) * slope;
            g.du[row * dim.e + e] = d * gy + delta * lambda_b;
            g.ddelta[row * dim.e + e] = ddelta;
            g.ddelta_bias[se] += ddelta;
            g.dd[se] += gy * u;
        }
    }
    g
}

/// The scan of one channel of one sample in one direction. `raw` is delta + delta_bias, `delta` is δ. All but `a` are
/// indexed by t.
struct Lane {
    u: Vec<f64>,
    raw: Vec<f64>,
    delta: Vec<f64>,
    a: Vec<f64>,
    h: Vec<Vec<f64>>,
    y: Vec<f64>,
}

impl Lane {
    fn scan(dim: Dims, x: &Inputs, [s, b, e]: [usize; 3]) -> Self {
        let (row, se) = (|t: usize| (s * dim.b + b) * dim.l + t, s * dim.e + e);
        let (d, bias) = (x.d.map_or(0.0, |d| d[se]), x.delta_bias.map_or(0.0, |bias| bias[se]));
        let u: Vec<f64> = (0..dim.l).map(|t| x.u[row(t) * dim.e + e]).collect();
        let raw: Vec<f64> = (0..dim.l).map(|t| x.delta[row(t) * dim.e + e] + bias).collect();
        let delta: Vec<f64> = raw.iter().map(|&v| if x.softplus { softplus(v) } else { v }).collect();
        let a: Vec<f64> = (0..dim.n).map(|n| -x.a_log[se * dim.n + n].exp()).collect();
        let (mut h, mut y) = (vec![vec![]; dim.l], vec![0.0; dim.l]);
        let mut state = vec![0.0; dim.n];
        for t in (0..dim.l).map(|i| dim.step(s, i)) {
            y[t] = d * u[t];
            for n in 0..dim.n {
                let (bi, ci) = dim.bc(row(t), n);
                state[n] = (delta[t] * a[n]).exp() * state[n] + delta[t] * x.xdbl[bi] * u[t];
                y[t] += x.xdbl[ci] * state[n];
            }
            h[t].clone_from(&state);
        }
        Self { u, raw, delta, a, h, y }
    }
}

impl Dims {
    /// All (s, b, e), in the order of last_state.
    fn lanes(self) -> impl Iterator<Item = [usize; 3]> {
        (0..self.s * self.b * self.e).map(move |i| [i / self.e / self.b, i / self.e % self.b, i % self.e])
    }

    /// Image position t of the i-th step of direction s.
    fn step(self, s: usize, i: usize) -> usize {
        if s == 0 { i } else { self.l - 1 - i }
    }

    /// Indices in xdbl of B and C of a row and a state.
    fn bc(self, row: usize, n: usize) -> (usize, usize) {
        let at = row * (self.r + 2 * self.n) + self.r + n;
        (at, at + self.n)
    }
}

#[cfg(test)]
mod tests;
