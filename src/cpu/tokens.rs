//! Tokens by index, as in MAE: `gather` takes the visible tokens (`torch.gather` with ids_keep), `restore` puts them
//! back among mask tokens (`torch.gather` with ids_restore).
//!
//! ```text
//!   gather:   out[b,v,:] = x[b, ids[b,v], :] (+ table[ids[b,v], :])
//!     x (B, L, D)   ids (B, V)   table (L, D)   out (B, V, D)
//!     dx[b,l] = Σ_{v: ids[b,v] = l} dout[b,v]    dtable[l] = Σ_b dx[b,l]
//!   restore:  out[b,l,:] = (inv[b,l] < V ? x[b, inv[b,l], :] : mask_token) (+ table[l, :])
//!     x (B, V, D)   inv (B, L), u32::MAX where masked   mask_token (D)   table (L, D)   out (B, L, D)
//!     dx[b,v] = Σ_{l: inv[b,l] = v} dout[b,l]    dmask_token = Σ_{masked} dout    dtable[l] = Σ_b dout[b,l]
//! ```

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// All tokens, L.
    pub l: usize,
    /// Visible tokens, V.
    pub v: usize,
    /// Width D of a token.
    pub d: usize,
}

/// Gradients of [`gather`].
pub struct GatherGrads {
    /// (B, L, D)
    pub dx: Vec<f64>,
    /// (L, D)
    pub dtable: Vec<f64>,
}

/// Gradients of [`restore`].
pub struct RestoreGrads {
    /// (B, V, D)
    pub dx: Vec<f64>,
    /// (D)
    pub dmask_token: Vec<f64>,
    /// (L, D)
    pub dtable: Vec<f64>,
}

/// The visible tokens of x (B, L, D), with positions: out (B, V, D).
pub fn gather(dim: Dims, x: &[f64], ids: &[u32], table: Option<&[f64]>) -> Vec<f64> {
    let mut out = Vec::with_capacity(ids.len() * dim.d);
    for (i, &id) in ids.iter().enumerate() {
        let (b, l) = (i / dim.v, id as usize);
        out.extend((0..dim.d).map(|c| x[(b * dim.l + l) * dim.d + c] + table.map_or(0.0, |t| t[l * dim.d + c])));
    }
    out
}

/// Gradients of x and table in [`gather`] from dout (B, V, D).
pub fn gather_backward(dim: Dims, ids: &[u32], dout: &[f64]) -> GatherGrads {
    let mut g = GatherGrads { dx: vec![0.0; dim.b * dim.l * dim.d], dtable: vec![0.0; dim.l * dim.d] };
    for (i, &id) in ids.iter().enumerate() {
        let (b, l) = (i / dim.v, id as usize);
        for c in 0..dim.d {
            g.dx[(b * dim.l + l) * dim.d + c] += dout[i * dim.d + c];
            g.dtable[l * dim.d + c] += dout[i * dim.d + c];
        }
    }
    g
}

/// The visible tokens x (B, V, D) among mask tokens, with positions: out (B, L, D).
pub fn restore(dim: Dims, x: &[f64], inv: &[u32], mask_token: &[f64], table: Option<&[f64]>) -> Vec<f64> {
    let mut out = Vec::with_capacity(inv.len() * dim.d);
    for (i, &v) in inv.iter().enumerate() {
        let (b, l, v) = (i / dim.l, i % dim.l, v as usize);
        let token = |c: usize| if v < dim.v { x[(b * dim.v + v) * dim.d + c] } else { mask_token[c] };
        out.extend((0..dim.d).map(|c| token(c) + table.map_or(0.0, |t| t[l * dim.d + c])));
    }
    out
}

/// Gradients of x, mask_token and table in [`restore`] from dout (B, L, D).
pub fn restore_backward(dim: Dims, inv: &[u32], dout: &[f64]) -> RestoreGrads {
    let (dx, dtable) = (vec![0.0; dim.b * dim.v * dim.d], vec![0.0; dim.l * dim.d]);
    let mut g = RestoreGrads { dx, dmask_token: vec![0.0; dim.d], dtable };
    for (i, &v) in inv.iter().enumerate() {
        let (b, l, v) = (i / dim.l, i % dim.l, v as usize);
        for c in 0..dim.d {
            let dout = dout[i * dim.d + c];
            let dtoken = if v < dim.v { &mut g.dx[(b * dim.v + v) * dim.d + c] } else { &mut g.dmask_token[c] };
            *dtoken += dout;
            g.dtable[l * dim.d + c] += dout;
        }
    }
    g
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    const DIM: Dims = Dims { b: 2, l: 5, v: 3, d: 2 };
    const IDS: [u32; 6] = [0, 2, 3, 1, 3, 4];
    const M: u32 = u32::MAX;
    const INV: [u32; 10] = [0, M, 1, 2, M, M, 0, M, 1, 2];

    #[test]
    fn restore_undoes_gather() {
        let x = random(1, 20);
        let back = restore(DIM, &gather(DIM, &x, &IDS, None), &INV, &[7.0, 7.0], None);
        for (i, (back, x)) in back.iter().zip(&x).enumerate() {
            assert_eq!(*back, if INV[i / 2] == M { 7.0 } else { *x });
        }
    }

    /// Sizes: `DIM`, a single token, and a token that is gathered twice.
    #[test]
    fn gather_gradients() {
        let one = Dims { b: 1, l: 1, v: 1, d: 1 };
        let twice = Dims { b: 1, l: 2, v: 3, d: 3 };
        for (dim, ids) in [(DIM, &IDS[..]), (one, &[0]), (twice, &[1, 1, 0])] {
            let (x, table) = (random(1, dim.b * dim.l * dim.d), random(2, dim.l * dim.d));
            let dout = random(3, dim.b * dim.v * dim.d);
            let g = gather_backward(dim, ids, &dout);
            check("dx", &x, &g.dx, |x| dot(&gather(dim, x, ids, Some(&table)), &dout));
            check("dtable", &table, &g.dtable, |table| dot(&gather(dim, &x, ids, Some(table)), &dout));
        }
    }

    #[test]
    fn restore_gradients() {
        let one = Dims { b: 1, l: 1, v: 1, d: 1 };
        for (dim, inv) in [(DIM, &INV[..]), (one, &[M]), (one, &[0])] {
            let (x, token) = (random(1, dim.b * dim.v * dim.d), random(2, dim.d));
            let (table, dout) = (random(3, dim.l * dim.d), random(4, dim.b * dim.l * dim.d));
            let loss = |x: &[f64], token: &[f64], table: &[f64]| dot(&restore(dim, x, inv, token, Some(table)), &dout);
            let g = restore_backward(dim, inv, &dout);
            check("dx", &x, &g.dx, |x| loss(x, &token, &table));
            check("dmask_token", &token, &g.dmask_token, |token| loss(&x, token, &table));
            check("dtable", &table, &g.dtable, |table| loss(&x, &token, table));
        }
    }
}
