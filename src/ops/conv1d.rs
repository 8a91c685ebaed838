//! conv1d: the causal depthwise convolution of a Mamba mixer, with its SiLU, and that of MambaVision, whose taps lie
//! around the token. Maths: `shaders/conv1d.wgsl`.

use super::parts::{Rows, sum_parts};
use crate::error::{Error, Result};
use crate::gpu::{Bind, Choice, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `conv1d.wgsl`.
    pub(crate) struct Conv1d { b: u32, l: u32, e: u32, run: u32, runs: u32, x_at: u32 }
}

const SRC: &str = wgsl!("conv1d", "grid", "math", "half", "gate");
const CONSTS: &[Const] =
    &[Const::of("S", &[2, 1]), Const::within("K", 1, 8, &[4, 1, 3, 8]), Const::flag("HALF"), Const::flag("SAME")];
const X: &[Bind] = &[read(1, "xz").f16_if("HALF"), read(2, "w"), read(3, "bias"), write(4, "u").f16_if("HALF")];
const DX: &[Bind] = &[
    read(1, "xz").f16_if("HALF"),
    read(2, "w"),
    read(3, "bias"),
    read(5, "du").f16_if("HALF"),
    write(6, "dxz").f16_if("HALF"),
    write(7, "part"),
];
const GATED: &[Bind] = &[
    read(1, "xz").f16_if("HALF"),
    read(2, "w"),
    read(3, "bias"),
    read(5, "du").f16_if("HALF"),
    read(11, "out").f16_if("HALF"),
    read(12, "dout").f16_if("HALF"),
    write(6, "dxz").f16_if("HALF"),
    write(7, "part"),
];

/// Taps around a token are those of one direction.
fn one_direction(c: &Choice<'_>) -> bool {
    c.get("SAME") == 0 || c.get("S") == 1
}

/// A gate needs the z half.
fn has_z(c: &Choice<'_>) -> bool {
    c.get("SAME") == 0
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Conv1d>(name, SRC, binds).consts(CONSTS).admits(one_direction).rounds()
}

const FORWARD: Kernel = kernel("conv1d.forward", X).least(|x| taps(x, 1, 2));
const BACKWARD: Kernel = kernel("conv1d.backward", DX).least(|x| taps(x, 2, 6));
const BACKWARD_GATED: Kernel = kernel("conv1d.backward_gated", GATED).admits(has_z).least(|x| taps(x, 6, 6));

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &BACKWARD_GATED];

/// Channels of a workgroup: two for each of its 64 lanes.
const CHANNELS: usize = 128;

/// Least work: `rows` arrays (B, L, E) and one (S, B, L, E) are moved. Each (s, b, t, e) takes `flops` per tap, and one
/// exponential for SiLU.
fn taps(launch: &LaunchArgs<'_>, rows: usize, flops: usize) -> Work {
    let p: Conv1d = launch.scalars();
    let (n, s, k) = ((p.b * p.l * p.e) as usize, launch.constant("S"), launch.constant("K"));
    Work::of(launch.bytes_of("HALF") * (rows + s) * n, flops * k * s * n, s * n)
}
/// Tokens that one lane walks. Neighboring runs both load the K − 1 tokens between them, so longer runs load less in
/// all; shorter runs are more parallel.
const RUN: usize = 32;

/// Causal depthwise convolution over tokens, then SiLU, in S = 1 or 2 directions over the same tokens.
///
/// Direction 0 sees a token and the K − 1 tokens before it. Direction 1 sees a token and the K − 1 tokens after it, as
/// if the sequence were reversed; its result is in the order of the tokens all the same. xz is the output of a Mamba
/// mixer's `in_proj`, and only its x half is read: the gradient of the z half is 0.
///
/// - Shapes: xz (B, L, 2E) with columns x | z, w (S, E, K), bias (S, E) → (S, B, L, E), f16 if xz is f16.
/// - causal_conv1d: `causal_conv1d_fn(x, w[s], bias[s], activation="silu")`, with x (B, E, L). PyTorch:
///   `F.silu(F.conv1d(x, w[s].unsqueeze(1), bias[s], padding=K - 1, groups=E)[..., :L])`.
/// - Source: Gu and Dao 2023 (Mamba); the second direction: Zhu et al. 2024 (Vim).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::conv1d::conv1d, tape::*, tensor::Tensor};
/// let xz = Tensor::from_slice(g, &[1, 3, 2], &[1.0, 9.0, 0.0, 9.0, -1.0, 9.0])?; // x = 1, 0, -1
/// let w = Tensor::from_slice(g, &[2, 1, 2], &[1.0; 4])?; // each direction adds two neighbors
/// let bias = Tensor::from_slice(g, &[2, 1], &[0.0; 2])?;
/// let [xz, w, bias] = [xz, w, bias].map(Var::leaf);
/// let mut r = Recorder::inference(g);
/// let u = conv1d(&mut r, &xz, &w, &bias, 2)?;
/// r.run()?;
/// let (pos, neg) = (0.7311, -0.2689); // SiLU(1), SiLU(-1)
/// assert_close(&u.data.to_vec(g)?, &[pos, pos, neg, pos, neg, neg], 1e-4);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If `directions` is not the S of w, if S is not 1 or 2, if K is not 1 to 8, or if E is odd in f16.
pub fn conv1d(r: &mut Recorder, xz: &Var, w: &Var, bias: &Var, directions: usize) -> Result<Var> {
    let shape = Shape::new(&xz.data, &w.data, &bias.data)?;
    if shape.s != directions {
        return Err(Error::argument("conv1d: directions of w", shape.s, directions));
    }
    let u = shape.forward(r, &xz.data, &w.data, Some(&bias.data))?;
    Ok(r.push((xz, w, bias), u, move |r, (xz, w, bias), du, grads| {
        let (dxz, dw, dbias) = (grads.alloc(&xz), grads.alloc(&w), grads.alloc(&bias));
        let sums = (grads.wants(&w) || grads.wants(&bias)).then_some((&dw, Some(&dbias)));
        shape.backward(r, [&xz.data, &w.data, du], Some(&bias.data), None, &dxz, sums)?;
        grads.add(r, &xz, dxz)?;
        if sums.is_some() {
            grads.add(r, &w, dw)?;
            grads.add(r, &bias, dbias)?;
        }
        Ok(())
    }))
}

/// Depthwise convolution over tokens whose taps lie around the token, then SiLU: token t reads tokens t − ⌊(K−1)/2⌋ to
/// t + ⌈(K−1)/2⌉, with zeros outside of the sequence.
///
/// - Shapes: x (B, L, E), w (E, K) → (B, L, E), f16 if x is f16.
/// - PyTorch: `F.silu(F.conv1d(x, w.unsqueeze(1), padding="same", groups=E))`, with x (B, E, L).
/// - Source: Hatamizadeh and Kautz 2025 (MambaVision).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::conv1d::conv1d_same, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 3, 1], &[1.0, 2.0, 4.0])?);
/// let w = Var::leaf(Tensor::from_slice(g, &[1, 3], &[1.0, 0.0, -1.0])?); // the token before, less the one behind
/// let mut r = Recorder::inference(g);
/// let u = conv1d_same(&mut r, &x, &w)?;
/// r.run()?;
/// assert_close(&u.data.to_vec(g)?, &[-0.2384, -0.1423, 1.7616], 1e-4); // SiLU(-2), SiLU(-3), SiLU(2)
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If K is not 1 to 8, or if E is odd in f16.
pub fn conv1d_same(r: &mut Recorder, x: &Var, w: &Var) -> Result<Var> {
    let shape = Shape::same(&x.data, &w.data)?;
    let u = shape.forward(r, &x.data, &w.data, None)?.reshape(x.data.shape())?;
    Ok(r.push((x, w), u, move |r, (x, w), du, grads| {
        let (dx, dw) = (grads.alloc(&x), grads.alloc(&w));
        let sums = grads.wants(&w).then_some((&dw, None));
        shape.backward(r, [&x.data, &w.data, du], None, None, &dx, sums)?;
        grads.add(r, &x, dx)?;
        if sums.is_some() { grads.add(r, &w, dw) } else { Ok(()) }
    }))
}

/// Sizes S, B, L, E and K of one convolution, and whether its taps lie around the token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    s: usize,
    b: usize,
    l: usize,
    e: usize,
    k: usize,
    same: bool,
    /// Whether the columns of xz are z | x instead of x | z.
    swapped: bool,
}

impl Shape {
    pub(super) fn new(xz: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Self> {
        let [b, l, e2] = xz.dims("conv1d: xz")?;
        let [s, e, k] = w.dims("conv1d: w")?;
        bias.expect_shape("conv1d: bias", &[s, e])?;
        xz.expect_shape("conv1d: xz", &[b, l, 2 * e])?;
        if !(1..=2).contains(&s) || !(1..=8).contains(&k) || xz.is_empty() || e2 == 0 {
            let got = format!("w (S, E, K) = {:?}, xz (B, L, 2E) = {:?}", w.shape(), xz.shape());
            return Err(Error::argument("conv1d: sizes", got, "S of 1 or 2, K of 1 to 8, nothing empty"));
        }
        if xz.is_f16() && !e.is_multiple_of(2) {
            return Err(Error::argument("conv1d: channels in f16", e, "an even number"));
        }
        Ok(Self { s, b, l, e, k, same: false, swapped: false })
    }

    /// The sizes of [`conv1d_same`].
    fn same(x: &Tensor, w: &Tensor) -> Result<Self> {
        let [b, l, e] = x.dims("conv1d: x")?;
        let [_, k] = w.dims("conv1d: w")?;
        w.expect_shape("conv1d: w", &[e, k])?;
        if !(1..=8).contains(&k) || x.is_empty() {
            let got = format!("w (E, K) = {:?}, x (B, L, E) = {:?}", w.shape(), x.shape());
            return Err(Error::argument("conv1d: sizes", got, "K of 1 to 8, nothing empty"));
        }
        if x.is_f16() && !e.is_multiple_of(2) {
            return Err(Error::argument("conv1d: channels in f16", e, "an even number"));
        }
        Ok(Self { s: 1, b, l, e, k, same: true, swapped: false })
    }

    /// The same sizes with the columns z | x in xz, or x | z.
    pub(super) fn with_halves(self, swapped: bool) -> Self {
        Self { swapped, ..self }
    }

    fn consts(self) -> [(&'static str, u32); 3] {
        [("S", self.s as u32), ("K", self.k as u32), ("SAME", self.same.into())]
    }

    fn params(self) -> Conv1d {
        let Self { b, l, e, .. } = self;
        scalars!(Conv1d { b, l, e, run: RUN, runs: l.div_ceil(RUN), x_at: if self.swapped { e } else { 0 } })
    }

    fn grid(self) -> Grid {
        Grid::of(self.e.div_ceil(CHANNELS), self.l.div_ceil(RUN), self.b)
    }

    /// Launches the forward pass → u (S, B, L, E).
    pub(super) fn forward(self, r: &mut Recorder, xz: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let u = xz.scratch_like("conv1d", &[self.s, self.b, self.l, self.e]);
        let args = [Some(xz), Some(w), bias, Some(&u)];
        r.launch_with(&FORWARD, &self.consts(), self.grid(), &self.params(), &args)?;
        Ok(u)
    }

    /// Launches the backward pass: writes `dxz` (B, L, 2E), or dx (B, L, E) where there is no z, and `sums` = (dw,
    /// dbias) if given.
    ///
    /// The z half of `dxz` is 0 without `gated`. With `gated` = (out, dout) of the gated scan that follows in a Mamba
    /// mixer, the z half is the gradient of that gate, which saves a launch.
    pub(super) fn backward(
        self, r: &mut Recorder, [xz, w, du]: [&Tensor; 3], bias: Option<&Tensor>, gated: Option<(&Tensor, &Tensor)>,
        dxz: &Tensor, sums: Option<(&Tensor, Option<&Tensor>)>,
    ) -> Result<()> {
        let p = self.params();
        let cols = self.s * (self.k + 1) * self.e;
        let part = Tensor::scratch("conv1d partial sums", &[self.b * p.runs as usize, cols]);
        let (kernel, gate) =
            gated.map_or((&BACKWARD, vec![]), |(out, dout)| (&BACKWARD_GATED, vec![Some(out), Some(dout)]));
        let args = [&[Some(xz), Some(w), bias, Some(du)], &gate[..], &[Some(dxz), Some(&part)]].concat();
        r.launch_with(kernel, &self.consts(), self.grid(), &p, &args)?;
        let Some((dw, dbias)) = sums else { return Ok(()) };
        let rows = |at: usize, end: usize| Rows { at, cols: end - at, ..Rows::dense(self.b * p.runs as usize, cols) };
        sum_parts(r, &part, rows(0, dw.len()), dw)?;
        dbias.map_or(Ok(()), |dbias| sum_parts(r, &part, rows(dw.len(), cols), dbias))
    }
}
