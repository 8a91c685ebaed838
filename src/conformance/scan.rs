//! Kind `selective_scan`: the operator alone, one direction, from the layouts of the reference (B, D, L).

use super::compare::{GRADIENT, OUTPUT, Report};
use super::fixture::{Array, Fixture};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::selective_scan::{Scan, chan_layout, selective_scan};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// (b, rows, cols) → (b, cols, rows).
fn swap(values: &[f32], [b, rows, cols]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for i in 0..b {
        for c in 0..cols {
            out.extend((0..rows).map(|r| values[(i * rows + r) * cols + c]));
        }
    }
    out
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut Report) -> Result<()> {
    let shape = &f.get("input.u")?.shape;
    let &[b, d, l] = shape.as_slice() else { return Err(f.error(format!("input.u is {shape:?}, expected [B, D, L]"))) };
    let a = f.get("input.A")?;
    let n = a.shape.get(1).copied().unwrap_or(0);
    let sized = |name: &str, shape: &[usize]| -> Result<Option<Vec<f32>>> {
        match f.find(name) {
            Some(array) if array.shape != shape => {
                Err(f.error(format!("{name} is {:?}, expected {shape:?}", array.shape)))
            }
            found => Ok(found.map(Array::f32)),
        }
    };
    let needed =
        |name: &str, shape: &[usize]| sized(name, shape)?.ok_or_else(|| f.error(format!("tensor `{name}` is missing")));
    let token_last = [b, d, l];
    let u = swap(&needed("input.u", &token_last)?, token_last);
    let delta = swap(&needed("input.delta", &token_last)?, token_last);
    let (bs, cs) = (needed("input.B", &[b, n, l])?, needed("input.C", &[b, n, l])?);
    let (bs, cs) = (swap(&bs, [b, n, l]), swap(&cs, [b, n, l]));
    let xdbl: Vec<f32> = bs.chunks(n.max(1)).zip(cs.chunks(n.max(1))).flat_map(|(b, c)| [b, c].concat()).collect();
    let (skip, bias) = (sized("input.D", &[d])?, sized("input.delta_bias", &[d])?);
    let z = sized("input.z", &token_last)?.map(|z| swap(&z, token_last));

    let layout = chan_layout(1, d, n);
    let mut chan = vec![0.0; layout.len];
    let a_values = needed("input.A", &[d, n])?;
    for (slot, value) in chan[layout.a_log..].iter_mut().zip(&a_values) {
        *slot = (-value).ln();
    }
    for (at, part) in [(layout.d, &skip), (layout.bias, &bias)] {
        if let Some(values) = part {
            chan[at..at + d].copy_from_slice(values);
        }
    }
    let leaf = |shape: &[usize], values: &[f32]| Tensor::from_slice(g, shape, values).map(Var::leaf);
    let (u, delta) = (leaf(&[1, b, l, d], &u)?, leaf(&[1, b, l, d], &delta)?);
    let (xdbl, chan) = (leaf(&[1, b, l, 2 * n], &xdbl)?, leaf(&[layout.len], &chan)?);
    let xz = z.map(|z| {
        let rows: Vec<f32> = z.chunks(d).flat_map(|row| [vec![0.0; d], row.to_vec()].concat()).collect();
        leaf(&[b, l, 2 * d], &rows)
    });
    let xz = xz.transpose()?;
    let softplus = f.config("delta_softplus").as_bool().unwrap_or(true);
    let spec = Scan { states: n, softplus, has_d: skip.is_some(), has_bias: bias.is_some(), algorithm: None };

    let mut r = Recorder::new(g);
    let (out, last_state) = selective_scan(&mut r, &u, &delta, &xdbl, &chan, xz.as_ref(), spec)?;
    let dout = swap(&needed("input.dout", &token_last)?, token_last);
    let dout = Tensor::from_slice(g, &[b, l, d], &dout)?;
    let grads = r.backward_from(&out, dout, Grads::default())?;
    r.run()?;
    if let Some(theirs) = f.find("output.out") {
        report.relative("output.out", &swap(&out.data.to_vec(g)?, [b, l, d]), theirs, OUTPUT);
    }
    if let Some(theirs) = f.find("output.last_state") {
        report.relative("output.last_state", &last_state.to_vec(g)?, theirs, OUTPUT);
    }
    let read = |var: &Var| grads.get(var).map_or_else(|| Ok(Vec::new()), |grad| grad.to_vec(g));
    let (du, ddelta, dxdbl, dchan) = (read(&u)?, read(&delta)?, read(&xdbl)?, read(&chan)?);
    let half = |offset: usize| -> Vec<f32> {
        let rows: Vec<f32> = dxdbl.chunks(2 * n.max(1)).flat_map(|row| row[offset..offset + n].to_vec()).collect();
        swap(&rows, [b, l, n])
    };
    let da = dchan[layout.a_log..].iter().zip(&a_values).map(|(dlog, a)| dlog / a).collect();
    let mut found = vec![
        ("u", swap(&du, [b, l, d])),
        ("delta", swap(&ddelta, [b, l, d])),
        ("A", da),
        ("B", half(0)),
        ("C", half(n)),
        ("D", dchan[layout.d..layout.d + d].to_vec()),
        ("delta_bias", dchan[layout.bias..layout.bias + d].to_vec()),
    ];
    if let Some(xz) = &xz {
        let dz: Vec<f32> = read(xz)?.chunks(2 * d).flat_map(|row| row[d..].to_vec()).collect();
        found.push(("z", swap(&dz, [b, l, d])));
    }
    for (name, theirs) in f.with_prefix("grad.") {
        match found.iter().find(|(ours, _)| *ours == name) {
            Some((_, ours)) => report.relative(&format!("grad.{name}"), ours, theirs, GRADIENT),
            None => return Err(f.error(format!("`grad.{name}` belongs to no input"))),
        }
    }
    Ok(())
}
