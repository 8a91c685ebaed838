//! Kind `selective_scan`: the operator alone, in one direction. Tensors of the file have mamba_ssm's layout (B, D, L).

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::{Array, Fixture};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::ops::selective_scan::{ScanOptions, selective_scan};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// Transposes (b, rows, cols) to (b, cols, rows).
fn swap(values: &[f32], [b, rows, cols]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for i in 0..b {
        for c in 0..cols {
            out.extend((0..rows).map(|r| values[(i * rows + r) * cols + c]));
        }
    }
    out
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
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
    let states = [b, n, l];
    let (bs, cs) = (swap(&needed("input.B", &states)?, states), swap(&needed("input.C", &states)?, states));
    let a_values = needed("input.A", &[d, n])?;
    let a_log: Vec<f32> = a_values.iter().map(|a| (-a).ln()).collect();
    let (skip, bias) = (sized("input.D", &[d])?, sized("input.delta_bias", &[d])?);
    let z = sized("input.z", &token_last)?.map(|z| swap(&z, token_last));

    let leaf = |shape: &[usize], values: &[f32]| Tensor::from_slice(g, shape, values).map(Var::leaf);
    let optional = |shape: &[usize], values: Option<Vec<f32>>| values.map(|v| leaf(shape, &v)).transpose();
    let (u, delta) = (leaf(&[1, b, l, d], &u)?, leaf(&[1, b, l, d], &delta)?);
    let (a_log, bs, cs) = (leaf(&[1, d, n], &a_log)?, leaf(&[1, b, l, n], &bs)?, leaf(&[1, b, l, n], &cs)?);
    let (skip, bias, z) = (optional(&[1, d], skip)?, optional(&[1, d], bias)?, optional(&[b, l, d], z)?);
    let options = ScanOptions {
        d: skip.as_ref(),
        z: z.as_ref(),
        delta_bias: bias.as_ref(),
        delta_softplus: f.config("delta_softplus").as_bool().unwrap_or(true),
        algorithm: None,
    };

    let mut r = Recorder::new(g);
    let (out, last_state) = selective_scan(&mut r, &u, &delta, &a_log, &bs, &cs, options)?;
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
    let da = read(&a_log)?.iter().zip(&a_values).map(|(dlog, a)| dlog / a).collect();
    let mut found = vec![
        ("u", swap(&read(&u)?, [b, l, d])),
        ("delta", swap(&read(&delta)?, [b, l, d])),
        ("A", da),
        ("B", swap(&read(&bs)?, [b, l, n])),
        ("C", swap(&read(&cs)?, [b, l, n])),
    ];
    for (name, var) in [("D", &skip), ("delta_bias", &bias)] {
        found.extend(var.as_ref().map(|var| Ok::<_, Error>((name, read(var)?))).transpose()?);
    }
    if let Some(z) = &z {
        found.push(("z", swap(&read(z)?, [b, l, d])));
    }
    for (name, theirs) in f.with_prefix("grad.") {
        match found.iter().find(|(ours, _)| *ours == name) {
            Some((_, ours)) => report.relative(&format!("grad.{name}"), ours, theirs, GRADIENT),
            None => return Err(f.error(format!("`grad.{name}` belongs to no input"))),
        }
    }
    Ok(())
}
