//! A Mamba mixer between its two outer projections: [`conv1d`], the two small projections, and the
//! [`selective_scan`] with its gate.
//!
//! ```text
//!   xz (B, L, 2E): x | z   conv_w (S, E, K)   conv_b (S, E)   x_proj (S, R+2N, E)   dt_proj (S, E, R)
//!   u = SiLU(conv(x))    dt|B|C = x_proj·u    out = scan(u, dt_proj·dt, B, C, z)
//! ```
use super::{conv1d, matmul, selective_scan};

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
    /// Rank R of the step sizes.
    pub r: usize,
    /// Taps K of the convolution.
    pub k: usize,
}

impl Dims {
    fn conv(self) -> conv1d::Dims {
        conv1d::Dims { s: self.s, b: self.b, l: self.l, e: self.e, k: self.k, ldx: 2 * self.e, same: false }
    }
    fn by_x(self) -> matmul::Dims {
        matmul::Dims { s: self.s, m: self.b * self.l, n: self.r + 2 * self.n, k: self.e }
    }
    fn by_dt(self) -> matmul::Dims {
        matmul::Dims { s: self.s, m: self.b * self.l, n: self.e, k: self.r }
    }
    fn scan(self) -> selective_scan::Dims {
        selective_scan::Dims { s: self.s, b: self.b, l: self.l, e: self.e, n: self.n, r: self.r }
    }
}

/// Inputs; the names are those of the formulae above.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// (B, L, 2E)
    pub xz: &'a [f64],
    /// (S, E, K)
    pub conv_w: &'a [f64],
    /// (S, E)
    pub conv_b: &'a [f64],
    /// (S, R+2N, E)
    pub x_proj: &'a [f64],
    /// (S, E, R)
    pub dt_proj: &'a [f64],
    /// (S, E, N)
    pub a_log: &'a [f64],
    /// (S, E)
    pub d: &'a [f64],
    /// (S, E)
    pub delta_bias: &'a [f64],
}

/// Gradients of [`forward`], in the shapes of the inputs.
pub struct Grads {
    /// (B, L, 2E)
    pub dxz: Vec<f64>,
    /// (S, E, K)
    pub dconv_w: Vec<f64>,
    /// (S, E)
    pub dconv_b: Vec<f64>,
    /// (S, R+2N, E)
    pub dx_proj: Vec<f64>,
    /// (S, E, R)
    pub ddt_proj: Vec<f64>,
    /// (S, E, N)
    pub da_log: Vec<f64>,
    /// (S, E)
    pub dd: Vec<f64>,
    /// (S, E)
    pub ddelta_bias: Vec<f64>,
}

/// Returns out (B, L, E).
pub fn forward(dim: Dims, x: &Inputs) -> Vec<f64> {
    selective_scan::forward(dim.scan(), &Between::new(dim, x).inputs(x)).out
}

/// Sizes of the states along the path of the scan.
pub fn path(dim: Dims, x: &Inputs) -> selective_scan::Path {
    selective_scan::path(dim.scan(), &Between::new(dim, x).inputs(x))
}

/// Gradients of all inputs from dout (B, L, E).
pub fn backward(dim: Dims, x: &Inputs, dout: &[f64]) -> Grads {
    let between = Between::new(dim, x);
    let scan = selective_scan::backward(dim.scan(), &between.inputs(x), dout);
    let dt = matmul::backward(dim.by_dt(), &between.low, x.dt_proj, &scan.ddelta);
    let mut dxdbl = scan.dxdbl;
    for (row, dlow) in dxdbl.chunks_mut(dim.r + 2 * dim.n).zip(dt.dx.chunks(dim.r)) {
        row[..dim.r].copy_from_slice(dlow);
    }
    let proj = matmul::backward(dim.by_x(), &between.u, x.x_proj, &dxdbl);
    let du: Vec<f64> = scan.du.iter().zip(&proj.dx).map(|(scan, proj)| scan + proj).collect();
    let conv = conv1d::backward(dim.conv(), x.xz, x.conv_w, x.conv_b, &du);
    Grads {
        dxz: conv.dx.chunks(dim.e).zip(scan.dz.chunks(dim.e)).flat_map(|(dx, dz)| [dx, dz].concat()).collect(),
        dconv_w: conv.dw,
        dconv_b: conv.dbias,
        dx_proj: proj.dw,
        ddt_proj: dt.dw,
        da_log: scan.da_log,
        dd: scan.dd,
        ddelta_bias: scan.ddelta_bias,
    }
}

/// What the scan reads.
struct Between {
    u: Vec<f64>,
    xdbl: Vec<f64>,
    /// dt, the leading columns of xdbl.
    low: Vec<f64>,
    delta: Vec<f64>,
    z: Vec<f64>,
}

impl Between {
    fn new(dim: Dims, x: &Inputs) -> Self {
        let u = conv1d::forward(dim.conv(), x.xz, x.conv_w, x.conv_b);
        let xdbl = matmul::forward(dim.by_x(), &u, x.x_proj, None, None);
        let low: Vec<f64> = xdbl.chunks(dim.r + 2 * dim.n).flat_map(|row| &row[..dim.r]).copied().collect();
        let delta = matmul::forward(dim.by_dt(), &low, x.dt_proj, None, None);
        let z = x.xz.chunks(2 * dim.e).flat_map(|row| &row[dim.e..]).copied().collect();
        Self { u, xdbl, low, delta, z }
    }

    fn inputs<'a>(&'a self, x: &Inputs<'a>) -> selective_scan::Inputs<'a> {
        selective_scan::Inputs {
            u: &self.u,
            delta: &self.delta,
            xdbl: &self.xdbl,
            a_log: x.a_log,
            d: Some(x.d),
            delta_bias: Some(x.delta_bias),
            z: Some(&self.z),
            softplus: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn gradients() {
        for [s, b, l, e, n, r, k] in [[1, 1, 1, 1, 1, 1, 4], [2, 2, 4, 3, 2, 2, 3]] {
            let dim = Dims { s, b, l, e, n, r, k };
            let (xz, dout) = (random(1, b * l * 2 * e), random(9, b * l * e));
            let (conv_w, conv_b) = (random(2, s * e * k), random(3, s * e));
            let (x_proj, dt_proj) = (random(4, s * (r + 2 * n) * e), random(5, s * e * r));
            let (a_log, d, bias) = (random(6, s * e * n), random(7, s * e), random(8, s * e));
            let x = Inputs {
                xz: &xz,
                conv_w: &conv_w,
                conv_b: &conv_b,
                x_proj: &x_proj,
                dt_proj: &dt_proj,
                a_log: &a_log,
                d: &d,
                delta_bias: &bias,
            };
            let loss = |x: Inputs| dot(&forward(dim, &x), &dout);
            let g = backward(dim, &x, &dout);
            check("dxz", &xz, &g.dxz, |xz| loss(Inputs { xz, ..x }));
            check("dconv_w", &conv_w, &g.dconv_w, |conv_w| loss(Inputs { conv_w, ..x }));
            check("dconv_b", &conv_b, &g.dconv_b, |conv_b| loss(Inputs { conv_b, ..x }));
            check("dx_proj", &x_proj, &g.dx_proj, |x_proj| loss(Inputs { x_proj, ..x }));
            check("ddt_proj", &dt_proj, &g.ddt_proj, |dt_proj| loss(Inputs { dt_proj, ..x }));
            check("da_log", &a_log, &g.da_log, |a_log| loss(Inputs { a_log, ..x }));
            check("dd", &d, &g.dd, |d| loss(Inputs { d, ..x }));
            check("ddelta_bias", &bias, &g.ddelta_bias, |delta_bias| loss(Inputs { delta_bias, ..x }));
        }
    }
}
