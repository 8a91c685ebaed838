//! VMamba's scan of a map in four directions: each direction's order of the cells, its projections, its scan, and the
//! results put back and added. Every direction moves the map, as VMamba's `CrossScan` and `CrossMerge` do.
//!
//! ```text
//!   u, out (B, H, W, E)   x_proj (4, R+2N, E)   dt_proj (4, E, R)   a_log (4, E, N)   d, delta_bias (4, E)
//!   t-th cell of direction 0: (⌊t/W⌋, t mod W)   of 1: (t mod H, ⌊t/H⌋)   of 2 and 3: those of 0 and 1 from the end
//!   v_k[t] = u[cell_k(t)]    dt|B|C = x_proj_k·v_k    y_k = scan(v_k, dt_proj_k·dt, B, C)    out[cell_k(t)] += y_k[t]
//! ```
use super::{matmul, selective_scan};

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Rows H of the map.
    pub h: usize,
    /// Columns W of the map.
    pub w: usize,
    /// Channels E.
    pub e: usize,
    /// States N of a channel.
    pub n: usize,
    /// Rank R of the step sizes.
    pub r: usize,
}

/// Inputs; the names are those of the formulae above.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// (B, H, W, E)
    pub u: &'a [f64],
    /// (4, R+2N, E)
    pub x_proj: &'a [f64],
    /// (4, E, R)
    pub dt_proj: &'a [f64],
    /// (4, E, N)
    pub a_log: &'a [f64],
    /// (4, E)
    pub d: &'a [f64],
    /// (4, E)
    pub delta_bias: &'a [f64],
}

/// Gradients of [`forward`], in the shapes of the inputs.
pub struct Grads {
    /// (B, H, W, E)
    pub du: Vec<f64>,
    /// (4, R+2N, E)
    pub dx_proj: Vec<f64>,
    /// (4, E, R)
    pub ddt_proj: Vec<f64>,
    /// (4, E, N)
    pub da_log: Vec<f64>,
    /// (4, E)
    pub dd: Vec<f64>,
    /// (4, E)
    pub ddelta_bias: Vec<f64>,
}

/// Returns out (B, H, W, E).
pub fn forward(dim: Dims, x: &Inputs) -> Vec<f64> {
    let mut out = vec![0.0; x.u.len()];
    for k in 0..4 {
        let way = Way::new(dim, x, k);
        dim.put(k, &selective_scan::forward(dim.scan(), &way.inputs(x, k)).out, &mut out);
    }
    out
}

/// Gradients of all inputs from dout (B, H, W, E).
pub fn backward(dim: Dims, x: &Inputs, dout: &[f64]) -> Grads {
    let (mut du, [mut dx_proj, mut ddt_proj, mut da_log, mut dd, mut ddelta_bias]) =
        (vec![0.0; x.u.len()], [const { Vec::new() }; 5]);
    for k in 0..4 {
        let way = Way::new(dim, x, k);
        let back = selective_scan::backward(dim.scan(), &way.inputs(x, k), &dim.take(k, dout));
        let dt = matmul::backward(dim.by_dt(), &way.low, part(x.dt_proj, k), &back.ddelta);
        let mut dxdbl = back.dxdbl;
        for (row, dlow) in dxdbl.chunks_mut(dim.r + 2 * dim.n).zip(dt.dx.chunks(dim.r)) {
            row[..dim.r].copy_from_slice(dlow);
        }
        let proj = matmul::backward(dim.by_x(), &way.v, part(x.x_proj, k), &dxdbl);
        let dv: Vec<f64> = back.du.iter().zip(&proj.dx).map(|(scan, proj)| scan + proj).collect();
        dim.put(k, &dv, &mut du);
        dx_proj.extend(proj.dw);
        ddt_proj.extend(dt.dw);
        da_log.extend(back.da_log);
        dd.extend(back.dd);
        ddelta_bias.extend(back.ddelta_bias);
    }
    Grads { du, dx_proj, ddt_proj, da_log, dd, ddelta_bias }
}

/// Direction k's quarter of a parameter.
fn part(values: &[f64], k: usize) -> &[f64] {
    let each = values.len() / 4;
    &values[k * each..(k + 1) * each]
}

/// What one direction reads: its tokens in its order, and what the projections make of them.
struct Way {
    v: Vec<f64>,
    xdbl: Vec<f64>,
    low: Vec<f64>,
    delta: Vec<f64>,
}

impl Way {
    fn new(dim: Dims, x: &Inputs, k: usize) -> Self {
        let v = dim.take(k, x.u);
        let xdbl = matmul::forward(dim.by_x(), &v, part(x.x_proj, k), None, None);
        let low: Vec<f64> = xdbl.chunks(dim.r + 2 * dim.n).flat_map(|row| &row[..dim.r]).copied().collect();
        let delta = matmul::forward(dim.by_dt(), &low, part(x.dt_proj, k), None, None);
        Self { v, xdbl, low, delta }
    }

    fn inputs<'a>(&'a self, x: &Inputs<'a>, k: usize) -> selective_scan::Inputs<'a> {
        selective_scan::Inputs {
            u: &self.v,
            delta: &self.delta,
            xdbl: &self.xdbl,
            a_log: part(x.a_log, k),
            d: Some(part(x.d, k)),
            delta_bias: Some(part(x.delta_bias, k)),
            z: None,
            softplus: true,
        }
    }
}

impl Dims {
    fn scan(self) -> selective_scan::Dims {
        selective_scan::Dims { s: 1, b: self.b, l: self.h * self.w, e: self.e, n: self.n, r: self.r }
    }

    fn by_x(self) -> matmul::Dims {
        matmul::Dims { s: 1, m: self.b * self.h * self.w, n: self.r + 2 * self.n, k: self.e }
    }

    fn by_dt(self) -> matmul::Dims {
        matmul::Dims { s: 1, m: self.b * self.h * self.w, n: self.e, k: self.r }
    }

    /// The raster number of the t-th cell of direction k.
    fn cell(self, k: usize, t: usize) -> usize {
        let t = if k < 2 { t } else { self.h * self.w - 1 - t };
        if k.is_multiple_of(2) { t } else { t % self.h * self.w + t / self.h }
    }

    /// The tokens (B, L, E) of a map in the order of direction k.
    fn take(self, k: usize, map: &[f64]) -> Vec<f64> {
        let l = self.h * self.w;
        let row = |i: usize| &map[(i / l * l + self.cell(k, i % l)) * self.e..][..self.e];
        (0..self.b * l).flat_map(row).copied().collect()
    }

    /// Adds tokens (B, L, E) in the order of direction k to the map they came from.
    fn put(self, k: usize, tokens: &[f64], map: &mut [f64]) {
        let l = self.h * self.w;
        for (i, token) in tokens.chunks(self.e).enumerate() {
            let at = (i / l * l + self.cell(k, i % l)) * self.e;
            map[at..at + self.e].iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    /// The cells of a map of two rows and three columns, by hand.
    #[test]
    fn four_orders() {
        let dim = Dims { b: 1, h: 2, w: 3, e: 1, n: 1, r: 1 };
        let orders = [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]];
        for (k, order) in orders.iter().enumerate() {
            assert_eq!(std::array::from_fn::<_, 6, _>(|t| dim.cell(k, t)), *order, "direction {k}");
        }
    }

    /// Where all four directions have the same weights, transposing the map transposes the result.
    #[test]
    fn equal_directions_do_not_see_a_transposition() {
        let dim = Dims { b: 1, h: 3, w: 4, e: 2, n: 2, r: 1 };
        let same = |seed, n: usize| random(seed, n).repeat(4);
        let (x_proj, dt_proj, a_log, d) = (same(2, 5 * 2), same(3, 2), same(4, 2 * 2), same(5, 2));
        let run = |dim: Dims, u: &[f64]| {
            let x = Inputs { u, x_proj: &x_proj, dt_proj: &dt_proj, a_log: &a_log, d: &d, delta_bias: &d };
            forward(dim, &x)
        };
        let u = random(1, 3 * 4 * 2);
        let turn = |x: &[f64]| -> Vec<f64> { dim.take(1, x) };
        close("out", &run(Dims { h: 4, w: 3, ..dim }, &turn(&u)), &turn(&run(dim, &u)), 1e-12);
    }

    #[test]
    fn gradients() {
        for (b, h, w, e, n, r) in [(1, 1, 1, 1, 1, 1), (2, 2, 3, 2, 1, 2), (1, 3, 2, 2, 3, 1)] {
            let dim = Dims { b, h, w, e, n, r };
            let (u, x_proj, dt_proj) = (random(1, b * h * w * e), random(2, 4 * (r + 2 * n) * e), random(3, 4 * e * r));
            let (a_log, d, bias) = (random(4, 4 * e * n), random(5, 4 * e), random(6, 4 * e));
            let dout = random(7, b * h * w * e);
            let x = Inputs { u: &u, x_proj: &x_proj, dt_proj: &dt_proj, a_log: &a_log, d: &d, delta_bias: &bias };
            let g = backward(dim, &x, &dout);
            check("du", &u, &g.du, |u| dot(&forward(dim, &Inputs { u, ..x }), &dout));
            check("dx_proj", &x_proj, &g.dx_proj, |x_proj| dot(&forward(dim, &Inputs { x_proj, ..x }), &dout));
            check("ddt_proj", &dt_proj, &g.ddt_proj, |dt_proj| dot(&forward(dim, &Inputs { dt_proj, ..x }), &dout));
            check("da_log", &a_log, &g.da_log, |a_log| dot(&forward(dim, &Inputs { a_log, ..x }), &dout));
            check("dd", &d, &g.dd, |d| dot(&forward(dim, &Inputs { d, ..x }), &dout));
            check("ddelta_bias", &bias, &g.ddelta_bias, |delta_bias| {
                dot(&forward(dim, &Inputs { delta_bias, ..x }), &dout)
            });
        }
    }
}
