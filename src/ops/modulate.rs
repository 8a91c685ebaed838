//! modulate: launchers and tape rules of adaLN's modulation and gate. Maths: `shaders/modulate.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `modulate.wgsl`.
    pub struct Modulate { n: u32, d: u32, parts: u32, before: u32 }
}

const SRC: &str = wgsl!("modulate", "grid");
const MODULATE: Kernel =
    Kernel::new::<Modulate>("modulate.modulate", SRC, &[read(1, "x"), read(3, "m"), write(4, "y")]);
const MODULATE_BACKWARD: Kernel = Kernel::new::<Modulate>(
    "modulate.modulate_backward",
    SRC,
    &[read(1, "x"), read(3, "m"), read(5, "dy"), read(6, "before"), write(7, "dx"), write(8, "dm")],
);
const GATE: Kernel =
    Kernel::new::<Modulate>("modulate.gate", SRC, &[read(1, "x"), read(2, "h"), read(3, "m"), write(4, "y")]);
const GATE_BACKWARD: Kernel = Kernel::new::<Modulate>(
    "modulate.gate_backward",
    SRC,
    &[read(2, "h"), read(3, "m"), read(5, "dy"), read(6, "before"), write(9, "dh"), write(8, "dm")],
);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&MODULATE, &MODULATE_BACKWARD, &GATE, &GATE_BACKWARD];

/// x·(1 + scale) + shift: x (.., D), m (.., P·D) with columns shift | scale (| gate).
pub fn modulate(r: &mut Recorder, x: &Var, m: &Var) -> Result<Var> {
    let p = scalars("modulate", x, m, 2)?;
    let y = Tensor::scratch("modulate", x.data.shape());
    r.launch(&MODULATE, Grid::items(y.len(), 256), &p, &[&x.data, &m.data, &y])?;
    Ok(r.push((x, m), y, move |r, (x, m), dy, grads| {
        let dx = grads.alloc(&x);
        collected(grads, &m, p, |p, before, dm| {
            let args = [Some(&x.data), Some(&m.data), Some(dy), before, Some(&dx), Some(dm)];
            r.launch(&MODULATE_BACKWARD, Grid::items(dy.len(), 256), &p, &args)
        })
        .and_then(|dm| grads.add(r, &m, dm))?;
        grads.add(r, &x, dx)
    }))
}

/// x + gate·h: x and h (.., D), m (.., 3·D) with columns shift | scale | gate.
pub fn gate(r: &mut Recorder, x: &Var, h: &Var, m: &Var) -> Result<Var> {
    let p = scalars("gate", x, m, 3)?;
    h.data.expect_shape("gate: h", x.data.shape())?;
    let y = Tensor::scratch("gate", x.data.shape());
    r.launch(&GATE, Grid::items(y.len(), 256), &p, &[&x.data, &h.data, &m.data, &y])?;
    Ok(r.push((x, h, m), y, move |r, (x, h, m), dy, grads| {
        let dh = grads.alloc(&h);
        collected(grads, &m, p, |p, before, dm| {
            let args = [Some(&h.data), Some(&m.data), Some(dy), before, Some(&dh), Some(dm)];
            r.launch(&GATE_BACKWARD, Grid::items(dy.len(), 256), &p, &args)
        })
        .and_then(|dm| grads.add(r, &m, dm))?;
        grads.add(r, &h, dh)?;
        grads.add(r, &x, dy.clone()) // the last reader of dy: it may become dx itself
    }))
}

/// Launches a backward that adds what `m` has collected to the gradient of `m` it writes; -> that gradient.
fn collected(
    grads: &mut Grads, m: &Var, p: Modulate, launch: impl FnOnce(Modulate, Option<&Tensor>, &Tensor) -> Result<()>,
) -> Result<Tensor> {
    let before = grads.take(m);
    let dm = if before.is_some() { Tensor::scratch("gradient", m.data.shape()) } else { grads.alloc(m) };
    let p = Modulate { before: before.is_some().into(), ..p };
    launch(p, before.as_ref(), &dm)?;
    Ok(dm)
}

fn scalars(op: &str, x: &Var, m: &Var, least: usize) -> Result<Modulate> {
    let ((rows, d), (m_rows, columns)) = (x.data.rows_cols(), m.data.rows_cols());
    let parts = columns / d.max(1);
    if rows != m_rows || !(least..=3).contains(&parts) || parts * d != columns {
        let expected = format!("{rows} rows of {least} to 3 times {d}");
        return Err(Error::argument(format!("{op}: m"), format!("{:?}", m.data.shape()), expected));
    }
    Ok(Modulate { n: (rows * d) as u32, d: d as u32, parts: parts as u32, before: 0 })
}
