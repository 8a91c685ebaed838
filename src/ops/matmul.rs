//! matmul: the general product and the linear layer with its tape rule. Maths: `shaders/matmul.wgsl`, and on cooperative
//! matrices `shaders/matmul_coop.wgsl`.

#[cfg(feature = "native")]
mod tune;
mod variant;
#[cfg(feature = "native")]
pub use tune::tune;
use variant::best;
pub use variant::{Path, Variant, pick, products};

use crate::error::{Error, Result};
use crate::gpu::{Bind, Gpu, Grid, Kernel, Launch, Precision, Work, params, wgsl};
use crate::ops::reduce::column_sum;
use crate::tape::{Grads, Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `matmul.wgsl`.
    pub struct Matmul {
        batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
        splits: u32, k_split: u32, has_bias: u32, has_residual: u32, act_at: u32,
    }
}

const SRC: &str = wgsl!("matmul", "grid", "math", "half", "gemm");
const PRODUCT: &[Bind] = &[Bind::Read(1), Bind::Read(2), Bind::Read(3), Bind::Read(4), Bind::Write(5)];
const CONSTS: &[(&str, u32)] = &[
    ("FORM", 0),
    ("VEC", 1),
    ("ACT", 0),
    ("ROUND", 0),
    ("TILE_M", 64),
    ("TILE_N", 64),
    ("A16", 0),
    ("B16", 0),
    ("R16", 0),
    ("C16", 0),
];
const COOP: &[(&str, u32)] = &[
    ("FORM", 0),
    ("VEC", 1),
    ("ACT", 0),
    ("LANES", 32),
    ("SM", 32),
    ("SN", 32),
    ("KS", KS as u32),
    ("HIGH", 0),
    ("A16", 0),
    ("B16", 0),
    ("R16", 0),
    ("C16", 0),
];
/// Bindings that may hold f16.
const HALVES: &[(u32, &str)] = &[(1, "A16"), (2, "B16"), (4, "R16"), (5, "C16")];
/// What k_split is a multiple of: the k that cooperative matrices take at a time.
const KS: usize = 32;

const DIRECT: Kernel = Kernel::new::<Matmul>("matmul.direct", SRC, PRODUCT).consts(CONSTS).halves(HALVES).work(product);
const TILED: Kernel = Kernel::new::<Matmul>("matmul.tiled", SRC, PRODUCT).consts(CONSTS).halves(HALVES).work(product);
const COMBINE: Kernel =
    Kernel::new::<Matmul>("matmul.combine", SRC, &[Bind::Read(3), Bind::Read(4), Bind::Write(5), Bind::Read(6)])
        .consts(CONSTS)
        .halves(&[(4, "R16"), (5, "C16")])
        .work(combine);
const COOP16: Kernel = Kernel::new::<Matmul>(
    "matmul_coop.product16",
    wgsl!("matmul_coop", "grid", "math", "half", "gemm", "coop16", "product16"),
    PRODUCT,
)
.consts(COOP)
.halves(HALVES)
.work(product);
const COOP8: Kernel = Kernel::new::<Matmul>(
    "matmul_coop.product8",
    wgsl!("matmul_coop", "grid", "math", "half", "gemm", "coop8", "product8"),
    PRODUCT,
)
.consts(COOP)
.halves(HALVES)
.work(product);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&DIRECT, &TILED, &COMBINE, &COOP16, &COOP8];

/// 2·M·N·K flops; both operands and what the epilogue reads, the product or its parts written, and what is activated of it.
fn product(launch: &Launch) -> Work {
    let p: Matmul = launch.scalars();
    let [batch, m, n, k, splits] = [p.batch, p.m, p.n, p.k, p.splits].map(|size| size as usize);
    let bytes = |half: &str| 4 - 2 * launch.constant(half);
    let operands = m * k * bytes("A16") + n * k * bytes("B16");
    let added = 4 * n * p.has_bias as usize + m * n * bytes("R16") * p.has_residual as usize;
    let stored = m * n * bytes("C16") * (splits + usize::from(p.act_at > 0));
    let exps = usize::from(launch.constant("ACT") > 0) * batch * m * n;
    Work::of(batch * (operands + added + stored), 2 * batch * m * n * k, exps)
}

/// The parts and what the epilogue takes read, the product written, and what is activated of it.
fn combine(launch: &Launch) -> Work {
    let p: Matmul = launch.scalars();
    let [products, splits, residual] = [p.batch * p.m * p.n, p.splits, p.has_residual].map(|size| size as usize);
    let bytes = |half: &str| 4 - 2 * launch.constant(half);
    let each = 4 * splits + residual * bytes("R16") + bytes("C16") * (1 + usize::from(p.act_at > 0));
    let exps = usize::from(launch.constant("ACT") > 0) * products;
    Work::of(products * each, products * (splits + residual), exps)
}

/// Which operand is transposed: what a row of memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// C\[m,n\] = Σ_k A\[m,k\]·B\[n,k\]
    Nt,
    /// C\[m,n\] = Σ_k A\[m,k\]·B\[k,n\]
    Nn,
    /// C\[m,n\] = Σ_k A\[k,m\]·B\[k,n\]
    Tn,
}

/// The activations that a product can apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// GELU in its erf form.
    Gelu,
    /// x·σ(x)
    Silu,
}

/// What is done to a sum, with its bias and residual, before it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    #[default]
    None,
    /// It is activated. The activated product lies at `at` in `c`, the product itself in front of it; 0 if that is not kept.
    Activate(Act, usize),
    /// It is multiplied by the slope of the activation at the residual, in place of adding that: the gradient of what was
    /// activated.
    Slope(Act),
}

impl Epilogue {
    /// `ACT` of the kernels.
    fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Activate(Act::Gelu, _) => 1,
            Self::Activate(Act::Silu, _) => 2,
            Self::Slope(Act::Gelu) => 3,
            Self::Slope(Act::Silu) => 4,
        }
    }
}

/// Sizes of a product, its leading dimensions and batch strides in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the WGSL header documents each size")]
pub struct Gemm {
    pub form: Form,
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub lda: usize,
    pub ldb: usize,
    pub ldc: usize,
    pub a_stride: usize,
    pub b_stride: usize,
    pub c_stride: usize,
    pub epilogue: Epilogue,
}

impl Gemm {
    /// `batch` products of dense matrices, one after the other.
    pub fn dense(form: Form, batch: usize, m: usize, n: usize, k: usize) -> Self {
        let (lda, ldb, epilogue) = (0, 0, Epilogue::None);
        let (a_stride, b_stride, c_stride) = (m * k, n * k, m * n);
        let mut p = Self { form, batch, m, n, k, lda, ldb, ldc: n, a_stride, b_stride, c_stride, epilogue };
        (p.lda, p.ldb) = (p.a_rows_cols().1, p.b_rows_cols().1);
        p
    }
    /// Products of one class are computed the same way: form, precision, loads, and sizes rounded up to powers of two.
    fn class(&self, precision: Precision) -> String {
        let kernel = if precision == Precision::F32 { &TILED } else { &COOP16 };
        let [batch, m, n, k] = [self.batch, self.m, self.n, self.k].map(usize::next_power_of_two);
        let loads = if self.quads() { "vec4" } else { "f32" };
        format!("matmul {:016x} {precision} {:?} {loads} {batch}x{m}x{n}x{k}", kernel.fingerprint(), self.form)
    }
    /// Whether rows are aligned and end at multiples of 4.
    fn quads(&self) -> bool {
        let (a, b) = (self.a_rows_cols().1, self.b_rows_cols().1);
        [a, self.lda, self.a_stride, b, self.ldb, self.b_stride].iter().all(|size| size % 4 == 0)
    }
    fn a_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Tn { (self.k, self.m) } else { (self.m, self.k) }
    }
    fn b_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Nt { (self.n, self.k) } else { (self.k, self.n) }
    }
}

/// Launches c = a·b (+ bias) (+ residual). `bias` is (batch, n); `residual` has the layout of `c`. Elements of `c` between
/// n and ldc stay as they are.
pub fn gemm(
    g: &Gpu, p: &Gemm, a: &Tensor, b: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>, c: &Tensor,
) -> Result<()> {
    gemm_with(g, best(g, p), p, a, b, bias, residual, c)
}

/// [`gemm`] in a given variant.
#[allow(clippy::too_many_arguments, reason = "gemm's arguments and the variant")]
pub fn gemm_with(
    g: &Gpu, variant: Variant, p: &Gemm, a: &Tensor, b: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>,
    c: &Tensor,
) -> Result<()> {
    variant.check(g.caps())?;
    let (a_size, b_size) = (p.a_rows_cols(), p.b_rows_cols());
    fits("a", a, p.batch, a_size, p.lda, p.a_stride)?;
    fits("b", b, p.batch, b_size, p.ldb, p.b_stride)?;
    fits("c", c, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    let act_at = match p.epilogue {
        Epilogue::Activate(_, at) => at,
        _ => 0,
    };
    if act_at > 0 {
        let product = c.len().saturating_sub(act_at);
        fits("c, activated", &c.range(c.len() - product, &[product])?, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    }
    if c.is_half() && [p.n, p.ldc, p.c_stride, act_at].iter().any(|size| size % 4 != 0) {
        let got = format!("{} columns, rows of {}, strides of {}", p.n, p.ldc, p.c_stride);
        return Err(Error::argument("matmul: c in f16", got, "multiples of 4"));
    }
    if matches!(p.epilogue, Epilogue::Slope(_)) && residual.is_none() {
        return Err(Error::argument("matmul: residual", "none", "what the slope is of"));
    }
    if let Some(bias) = bias {
        fits("bias", bias, 1, (p.batch, p.n), p.n, 0)?;
    }
    if let Some(residual) = residual {
        fits("residual", residual, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    }
    let (kernel, mut consts, tile) = variant.kernel(g.caps(), p);
    let k_split = p.k.div_ceil(variant.splits.max(1)).next_multiple_of(KS);
    let splits = p.k.div_ceil(k_split);
    let whole = Matmul {
        batch: p.batch as u32,
        m: p.m as u32,
        n: p.n as u32,
        k: p.k as u32,
        lda: p.lda as u32,
        ldb: p.ldb as u32,
        ldc: p.ldc as u32,
        a_stride: p.a_stride as u32,
        b_stride: p.b_stride as u32,
        c_stride: p.c_stride as u32,
        splits: splits as u32,
        k_split: k_split as u32,
        has_bias: bias.is_some() as u32,
        has_residual: residual.is_some() as u32,
        act_at: act_at as u32,
    };
    let grid = Grid::of(p.n.div_ceil(tile.1), p.m.div_ceil(tile.0), p.batch * splits);
    // what is absent is bound to some other input and not read
    let absent = a.unread();
    let (bias, residual) = (bias.unwrap_or(&absent), residual.unwrap_or(&absent));
    if splits == 1 {
        return g.launch_with(kernel, &consts, grid, &whole, &[a, b, bias, residual, c]);
    }
    let part = Tensor::scratch("matmul.part", &[splits, p.batch, p.m, p.n]);
    let (ldc, c_stride) = (p.n as u32, (p.m * p.n) as u32);
    let parts = Matmul { ldc, c_stride, has_bias: 0, has_residual: 0, act_at: 0, ..whole };
    consts.retain(|(name, _)| *name != "ACT");
    g.launch_with(kernel, &consts, grid, &parts, &[a, b, &absent, &absent, &part])?;
    let grid = Grid::items(p.batch * p.m * p.n / if c.is_half() { 4 } else { 1 }, 256);
    g.launch_with(&COMBINE, &[("ACT", p.epilogue.number())], grid, &whole, &[bias, residual, c, &part])
}

/// An error unless `batch` matrices of this size, leading dimension and stride lie inside the tensor.
fn fits(
    what: &str, tensor: &Tensor, batch: usize, (rows, cols): (usize, usize), ld: usize, stride: usize,
) -> Result<()> {
    let what = || format!("matmul: {what}");
    if batch * rows * cols == 0 || ld < cols {
        let got = format!("{batch} × ({rows}, {cols}), leading dimension {ld}");
        return Err(Error::argument(what(), got, "sizes of at least 1 and a leading dimension of at least a row"));
    }
    let end = (batch - 1) * stride + (rows - 1) * ld + cols;
    if tensor.len() < end {
        return Err(Error::argument(what(), format!("{:?}", tensor.shape()), format!("at least {end} elements")));
    }
    Ok(())
}

/// The linear layer y = x·wᵀ (+ bias) (+ residual): x (.., K), w (N, K), bias (N), residual and y (.., N); or a batch of
/// them: x (S, .., K), w (S, N, K), bias (S, N), residual and y (S, .., N).
pub fn matmul(g: &Gpu, t: &mut Tape, x: &Var, w: &Var, bias: Option<&Var>, residual: Option<&Var>) -> Result<Var> {
    linear(g, t, x, w, bias, residual, Tensor::scratch)
}

/// [`matmul`] with y in f16, for operators that take it so; N has to be a multiple of 4.
pub fn matmul_half(g: &Gpu, t: &mut Tape, x: &Var, w: &Var, bias: Option<&Var>) -> Result<Var> {
    linear(g, t, x, w, bias, None, Tensor::scratch_half)
}

fn linear(
    g: &Gpu, t: &mut Tape, x: &Var, w: &Var, bias: Option<&Var>, residual: Option<&Var>,
    scratch: impl Fn(&'static str, &[usize]) -> Tensor,
) -> Result<Var> {
    let (s, n, k) = match *w.data.shape() {
        [n, k] => (1, n, k),
        [s, n, k] => (s, n, k),
        ref other => return Err(Error::argument("matmul: w", format!("{other:?}"), "(N, K) or (S, N, K)")),
    };
    if s == 0 {
        return Err(Error::argument("matmul: w", format!("{:?}", w.data.shape()), "at least one matrix"));
    }
    let batched = w.data.shape().len() == 3;
    let shape = x.data.shape();
    if shape.last() != Some(&k) || batched && (shape.len() < 2 || shape[0] != s) {
        let expected = if batched { format!("({s}, .., {k})") } else { format!("(.., {k})") };
        return Err(Error::argument("matmul: x", format!("{shape:?}"), expected));
    }
    let mut out = shape.to_vec();
    out[shape.len() - 1] = n;
    let rows = shape[..shape.len() - 1].iter().product::<usize>() / s;
    let bias_shape = if batched { vec![s, n] } else { vec![n] };
    if let Some(bias) = bias {
        bias.data.expect_shape("matmul: bias", &bias_shape)?;
    }
    if let Some(residual) = residual {
        residual.data.expect_shape("matmul: residual", &out)?;
    }
    let y = scratch("matmul", &out);
    let p = Gemm::dense(Form::Nt, s, rows, n, k);
    gemm(g, &p, &x.data, &w.data, bias.map(|v| &v.data), residual.map(|v| &v.data), &y)?;

    let (x, w, bias, residual) = (x.clone(), w.clone(), bias.cloned(), residual.cloned());
    Ok(t.push(g, y, move |g, dy, grads| {
        if let Some(residual) = &residual {
            grads.add(g, residual, dy.clone())?;
        }
        let dy = dy.reshape(&[s, rows, n])?;
        parameters(g, grads, &dy, &x.data, &w, bias.as_ref())?;
        input(g, grads, &dy, &w.data, &x)
    }))
}

/// dbias = Σ dy and dw = dyᵀ·x, of dy (S, M, N) and x (S, M, K), where they are wanted.
pub(super) fn parameters(
    g: &Gpu, grads: &mut Grads, dy: &Tensor, x: &Tensor, w: &Var, bias: Option<&Var>,
) -> Result<()> {
    let [s, rows, n] = dy.dims("matmul: dy")?;
    if let Some(bias) = bias.filter(|bias| grads.wants(bias)) {
        let dbias = grads.alloc(bias);
        column_sum(g, dy, &dbias.reshape(&[s, n])?)?;
        grads.add(g, bias, dbias)?;
    }
    if grads.wants(w) {
        let dw = grads.alloc(w);
        gemm(g, &Gemm::dense(Form::Tn, s, n, dw.len() / (s * n), rows), dy, x, None, None, &dw)?;
        grads.add(g, w, dw)?;
    }
    Ok(())
}

/// dx = dy·w of dy (S, M, N), where it is wanted.
pub(super) fn input(g: &Gpu, grads: &mut Grads, dy: &Tensor, w: &Tensor, x: &Var) -> Result<()> {
    if !grads.wants(x) {
        return Ok(());
    }
    let [s, rows, n] = dy.dims("matmul: dy")?;
    // what x has collected is added while dx is written, so dx needs memory of its own
    let before = grads.take(x);
    let dx = if before.is_some() { x.data.scratch_like("gradient", x.data.shape()) } else { grads.alloc(x) };
    gemm(g, &Gemm::dense(Form::Nn, s, rows, w.len() / (s * n), n), dy, w, None, before.as_ref(), &dx)?;
    grads.add(g, x, dx)
}
