//! channel_gate: a sigmoid gate for each channel of a sample. Maths: `shaders/channel_gate.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `channel_gate.wgsl`.
    pub(crate) struct ChannelGate { n: u32, l: u32, c: u32, chunk: u32, chunks: u32 }
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    const CONSTS: &[Const] = &[Const::flag("HALF")];
    Kernel::new::<ChannelGate>(name, wgsl!("channel_gate", "grid", "math", "half", "element"), binds)
        .consts(CONSTS)
        .rounds()
}
const FORWARD: Kernel =
    kernel("channel_gate.forward", &[read(1, "x").f16_if("HALF"), read(2, "t"), write(3, "y").f16_if("HALF")])
        .least(|x| Work { bytes: x.bytes, ..Work::of(0, x.len("x"), x.len("t")) });
const SUMS: Kernel =
    kernel("channel_gate.sums", &[read(1, "x").f16_if("HALF"), read(4, "dy").f16_if("HALF"), write(5, "part")])
        .least(|x| Work { bytes: x.bytes, ..Work::of(0, 2 * x.len("x"), 0) });
const FINISH: Kernel = kernel("channel_gate.finish", &[read(6, "parts"), read(2, "t"), write(7, "dt")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &SUMS, &FINISH];

/// Pixels that a lane sums. More make fewer parts, fewer make more lanes.
const CHUNK: usize = 64;

/// x·σ(t), with one t for each channel of a sample: the last step of squeeze-and-excitation. The result has the element
/// type of x, for which f16 needs an even C; t is f32.
///
/// - Shapes: x (B, .., C), t (B, C) → the shape of x.
/// - PyTorch: `x * t.sigmoid()[:, :, None, None]`, with x (B, C, H, W).
/// - Source: Hu et al. 2018.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::channel_gate::channel_gate, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2, 2], &[1.0, 2.0, 3.0, 4.0])?);
/// let t = Var::leaf(Tensor::from_slice(g, &[1, 2], &[0.0, 50.0])?); // σ = 0.5, 1
/// let mut r = Recorder::new(g);
/// let y = channel_gate(&mut r, &x, &t)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[0.5, 2.0, 1.5, 4.0], 1e-6);
/// assert_close(&grads.get(&t).unwrap().to_vec(g)?, &[1.0, 0.0], 1e-6); // 0.25·(1 + 3)
/// # Ok(()) });
/// ```
pub fn channel_gate(r: &mut Recorder, x: &Var, t: &Var) -> Result<Var> {
    let [b, c] = t.data.dims("channel_gate: t")?;
    let shape = x.data.shape();
    if x.data.is_empty() || shape.len() < 2 || shape[0] != b || shape.last() != Some(&c) {
        return Err(Error::argument("channel_gate: x", format!("{shape:?}"), format!("({b}, .., {c}), not empty")));
    }
    if x.data.is_f16() && !c.is_multiple_of(2) {
        return Err(Error::argument("channel_gate: channels in f16", c, "an even number"));
    }
    let (n, l) = (x.data.len(), x.data.len() / (b * c));
    let chunks = l.div_ceil(CHUNK);
    let p = scalars!(ChannelGate { n, l, c, chunk: l.div_ceil(chunks), chunks });
    let grid = Grid::items(if x.data.is_f16() { n / 2 } else { n }, 256);
    let y = x.data.scratch_like("channel gate", shape);
    r.launch(&FORWARD, grid, &p, &[&x.data, &t.data, &y])?;
    Ok(r.push((x, t), y, move |r, (x, t), dy, grads| {
        if grads.wants(&t) {
            let (dt, part) = (grads.alloc(&t), Tensor::scratch("channel gate sums", &[b, chunks, c]));
            r.launch(&SUMS, Grid::items(part.len(), 64), &p, &[&x.data, dy, &part])?;
            r.launch(&FINISH, Grid::items(b * c, 64), &p, &[&part, &t.data, &dt])?;
            grads.add(r, &t, dt)?;
        }
        if !grads.wants(&x) {
            return Ok(());
        }
        let dx = grads.alloc(&x);
        r.launch(&FORWARD, grid, &p, &[dy, &t.data, &dx])?;
        grads.add(r, &x, dx)
    }))
}
