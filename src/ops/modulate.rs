//! modulate: the two element-wise steps of an adaLN block (DiT), modulation and gate. Maths: `shaders/modulate.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `modulate.wgsl`.
    pub(crate) struct Modulate { n: u32, d: u32, parts: u32, before: u32 }
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
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&MODULATE, &MODULATE_BACKWARD, &GATE, &GATE_BACKWARD];

/// The modulation of adaLN: x·(1 + scale) + shift, with shift and scale from the condition m.
///
/// - Shapes: x (.., D), m (.., 2D) with columns shift | scale or (.., 3D) with columns shift | scale | gate → (.., D).
/// - DiT and MAR: `modulate(x, shift, scale)`.
/// - Source: Peebles and Xie 2023 (DiT).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::modulate::modulate, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2], &[1.0, 2.0])?);
/// let m = Var::leaf(Tensor::from_slice(g, &[1, 4], &[10.0, 20.0, 0.0, 1.0])?); // shift 10, 20, scale 0, 1
/// let mut r = Recorder::inference(g);
/// let y = modulate(&mut r, &x, &m)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [11.0, 24.0]);
/// # Ok(()) });
/// ```
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

/// The gated residual of adaLN: x + gate·h, with the gate from the condition m and h the output of the branch.
///
/// - Shapes: x and h (.., D), m (.., 3D) with columns shift | scale | gate → (.., D).
/// - DiT and MAR: `x + gate * h`.
/// - Source: Peebles and Xie 2023 (DiT).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::modulate::gate, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1], &[1.0])?);
/// let h = Var::leaf(Tensor::from_slice(g, &[1, 1], &[4.0])?);
/// let m = Var::leaf(Tensor::from_slice(g, &[1, 3], &[7.0, 8.0, 0.5])?); // gate 0.5
/// let mut r = Recorder::inference(g);
/// let y = gate(&mut r, &x, &h, &m)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [3.0]);
/// # Ok(()) });
/// ```
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
        grads.add(r, &x, dy.clone()) // last, because dy may become dx without a copy
    }))
}

/// Launches a backward kernel that writes the gradient of m, plus the gradient that m has collected so far, and returns
/// the sum. modulate and gate of a block read the same m, so this saves the launch that would add their gradients.
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
    Ok(scalars!(Modulate { n: rows * d, d, parts, before: 0 }))
}
