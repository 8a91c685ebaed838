//! matmul: the general product and the linear layer with its tape rule. Maths: `shaders/matmul.wgsl`, and on cooperative
//! matrices `shaders/matmul_coop.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Caps, Gpu, Grid, Kernel, Launch, Precision, Work, params, wgsl};
use crate::ops::reduce::column_sum;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `matmul.wgsl`.
    pub struct Matmul {
        batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
        splits: u32, k_split: u32, has_bias: u32, has_residual: u32,
    }
}

const SRC: &str = wgsl!("matmul", "grid", "gemm");
const PRODUCT: &[Bind] = &[Bind::Read(1), Bind::Read(2), Bind::Read(3), Bind::Read(4), Bind::Write(5)];
const CONSTS: &[(&str, u32)] = &[("FORM", 0), ("VEC", 1), ("ROUND", 0)];
const COOP: &[(&str, u32)] =
    &[("FORM", 0), ("VEC", 1), ("LANES", 32), ("SM", 32), ("SN", 32), ("KS", KS as u32), ("HIGH", 0)];

const DIRECT: Kernel = Kernel::new::<Matmul>("matmul.direct", SRC, PRODUCT).consts(CONSTS).work(product);
const TILED: Kernel = Kernel::new::<Matmul>("matmul.tiled", SRC, PRODUCT).consts(CONSTS).work(product);
const COMBINE: Kernel =
    Kernel::new::<Matmul>("matmul.combine", SRC, &[Bind::Read(3), Bind::Read(4), Bind::Write(5), Bind::Read(6)])
        .consts(CONSTS)
        .work(combine);
const COOP16: Kernel =
    Kernel::new::<Matmul>("matmul_coop.product16", wgsl!("matmul_coop", "grid", "gemm", "coop16"), PRODUCT)
        .consts(COOP)
        .work(product);
const COOP8: Kernel =
    Kernel::new::<Matmul>("matmul_coop.product8", wgsl!("matmul_coop", "grid", "gemm", "coop8"), PRODUCT)
        .consts(COOP)
        .work(product);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&DIRECT, &TILED, &COMBINE, &COOP16, &COOP8];

/// 2·M·N·K flops; both operands, bias and residual read, the product or its parts written.
fn product(launch: &Launch) -> Work {
    let p: Matmul = launch.scalars();
    let [batch, m, n, k, splits] = [p.batch, p.m, p.n, p.k, p.splits].map(|size| size as usize);
    let extra = p.has_bias as usize * n + p.has_residual as usize * m * n;
    Work::of(4 * batch * (m * k + n * k + splits * m * n + extra), 2 * batch * m * n * k, 0)
}

/// The parts read and added, the product written.
fn combine(launch: &Launch) -> Work {
    let p: Matmul = launch.scalars();
    let [products, splits, residual] = [p.batch * p.m * p.n, p.splits, p.has_residual].map(|size| size as usize);
    Work::of(4 * products * (splits + 1 + residual), products * (splits + residual), 0)
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
}

impl Gemm {
    /// `batch` products of dense matrices, one after the other.
    pub fn dense(form: Form, batch: usize, m: usize, n: usize, k: usize) -> Self {
        let mut p =
            Self { form, batch, m, n, k, lda: 0, ldb: 0, ldc: n, a_stride: m * k, b_stride: n * k, c_stride: m * n };
        (p.lda, p.ldb) = (p.a_rows_cols().1, p.b_rows_cols().1);
        p
    }
    fn a_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Tn { (self.k, self.m) } else { (self.m, self.k) }
    }
    fn b_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Nt { (self.n, self.k) } else { (self.k, self.n) }
    }
}

/// Where the operands of a product go on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Straight from global memory into registers.
    Direct,
    /// Through workgroup memory.
    Tiled,
    /// Through workgroup memory into cooperative matrices; tiles of this side, 64 or 128.
    Coop(usize),
}

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Where the operands go.
    pub path: Path,
    /// Parts of k that are summed apart and combined; 1 for none.
    pub splits: usize,
    /// Of the operands. Cooperative matrices have no f32; elsewhere [`Precision::High`] is f32.
    pub precision: Precision,
}

/// Workgroups that keep a GPU busy, and the least k that is worth a part.
const BUSY: usize = 512;
const PART: usize = 256;
/// As many workgroups with tiles of 128 × 128 keep one busy too: each works longer.
const BUSY_WIDE: usize = 128;
/// What k_split is a multiple of: the k that cooperative matrices take at a time.
const KS: usize = 32;

/// The variant for a shape: no barriers on a CPU; on a GPU parts of k where the tiles alone are too few.
pub fn pick(caps: &Caps, precision: Precision, p: &Gemm) -> Variant {
    let tiles = |side: usize| p.m.div_ceil(side) * p.n.div_ceil(side) * p.batch;
    let path = match precision {
        _ if caps.software => Path::Direct,
        Precision::F32 => Path::Tiled,
        _ if !caps.tiers.coop => Path::Tiled,
        // both halves of the operands of a wide tile are more than a workgroup may hold
        Precision::Mixed if tiles(128) >= BUSY_WIDE => Path::Coop(128),
        _ => Path::Coop(64),
    };
    let splits = match path {
        Path::Direct | Path::Coop(128) => 1,
        _ => (BUSY / tiles(64).max(1)).min(p.k / PART).max(1),
    };
    Variant { path, splits, precision }
}

/// How large products are computed on an adapter, in words.
pub fn products(caps: &Caps, precision: Precision) -> &'static str {
    let large = Gemm::dense(Form::Nt, 1, 4096, 4096, 4096);
    match (precision, pick(caps, precision, &large).path) {
        (Precision::F32, _) => "f32",
        (Precision::Mixed, Path::Coop(_)) => "f16 with f32 sums, on cooperative matrices",
        (Precision::Mixed, _) => "f32 of operands rounded to f16: no cooperative matrices are used here",
        (Precision::High, Path::Coop(_)) => "three f16 products with f32 sums, on cooperative matrices",
        (Precision::High, _) => "f32: no cooperative matrices are used here",
    }
}

impl Variant {
    /// The kernel, its constants, and the side of a tile.
    fn kernel(self, caps: &Caps, p: &Gemm, quads: bool) -> (&'static Kernel, Vec<(&'static str, u32)>, usize) {
        let mut consts = vec![("FORM", p.form as u32), ("VEC", quads as u32)];
        let Path::Coop(side) = self.path else {
            consts.push(("ROUND", (self.precision == Precision::Mixed) as u32));
            return (if self.path == Path::Tiled { &TILED } else { &DIRECT }, consts, 64);
        };
        let (half, lanes) = (side as u32 / 2, caps.subgroup_sizes.0);
        let high = (self.precision == Precision::High) as u32;
        consts.extend([("LANES", lanes), ("SM", half), ("SN", half), ("HIGH", high)]);
        (if caps.fragment == 8 { &COOP8 } else { &COOP16 }, consts, side)
    }

    /// An error unless an adapter can compute this.
    fn check(self, caps: &Caps) -> Result<()> {
        let fits = match (self.path, self.precision) {
            (Path::Coop(64), Precision::Mixed | Precision::High) | (Path::Coop(128), Precision::Mixed) => {
                caps.tiers.coop
            }
            (Path::Coop(_), _) => false,
            _ => true,
        };
        let expected = "tiles of 64, or of 128 in mixed precision, on an adapter with cooperative matrices";
        if fits { Ok(()) } else { Err(Error::argument("matmul: variant", format!("{self:?}"), expected)) }
    }
}

/// Launches c = a·b (+ bias) (+ residual). `bias` is (batch, n); `residual` has the layout of `c`. Elements of `c` between
/// n and ldc stay as they are.
pub fn gemm(
    g: &Gpu, p: &Gemm, a: &Tensor, b: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>, c: &Tensor,
) -> Result<()> {
    gemm_with(g, pick(g.caps(), g.precision(), p), p, a, b, bias, residual, c)
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
    if let Some(bias) = bias {
        fits("bias", bias, 1, (p.batch, p.n), p.n, 0)?;
    }
    if let Some(residual) = residual {
        fits("residual", residual, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    }
    let quads = [a_size.1, p.lda, p.a_stride, b_size.1, p.ldb, p.b_stride].iter().all(|size| size % 4 == 0);
    let (kernel, consts, side) = variant.kernel(g.caps(), p, quads);
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
    };
    let grid = Grid::of(p.n.div_ceil(side), p.m.div_ceil(side), p.batch * splits);
    // what is absent is bound to some other input and not read
    let absent = a.range(0, &[1])?;
    let (bias, residual) = (bias.unwrap_or(&absent), residual.unwrap_or(&absent));
    if splits == 1 {
        return g.launch_with(kernel, &consts, grid, &whole, &[a, b, bias, residual, c]);
    }
    let part = Tensor::scratch("matmul.part", &[splits, p.batch, p.m, p.n]);
    let parts = Matmul { ldc: p.n as u32, c_stride: (p.m * p.n) as u32, has_bias: 0, has_residual: 0, ..whole };
    g.launch_with(kernel, &consts, grid, &parts, &[a, b, &absent, &absent, &part])?;
    let grid = Grid::items(p.batch * p.m * p.n, 256);
    g.launch(&COMBINE, grid, &whole, &[bias, residual, c, &part])
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
    let y = Tensor::scratch("matmul", &out);
    let p = Gemm::dense(Form::Nt, s, rows, n, k);
    gemm(g, &p, &x.data, &w.data, bias.map(|v| &v.data), residual.map(|v| &v.data), &y)?;

    let (x, w, bias, residual) = (x.clone(), w.clone(), bias.cloned(), residual.cloned());
    Ok(t.push(g, y, move |g, dy, grads| {
        if let Some(residual) = &residual {
            grads.add(g, residual, dy.clone())?;
        }
        if let Some(bias) = bias.filter(|bias| grads.wants(bias)) {
            let dbias = grads.alloc(&bias);
            column_sum(g, &dy.reshape(&[s, rows, n])?, &dbias.reshape(&[s, n])?)?;
            grads.add(g, &bias, dbias)?;
        }
        if grads.wants(&w) {
            let dw = grads.alloc(&w);
            gemm(g, &Gemm::dense(Form::Tn, s, n, k, rows), dy, &x.data, None, None, &dw)?;
            grads.add(g, &w, dw)?;
        }
        if grads.wants(&x) {
            // what x has collected is added while dx is written, so dx needs memory of its own
            let before = grads.take(&x);
            let dx = if before.is_some() { Tensor::scratch("gradient", x.data.shape()) } else { grads.alloc(&x) };
            gemm(g, &Gemm::dense(Form::Nn, s, rows, k, n), dy, &w.data, None, before.as_ref(), &dx)?;
            grads.add(g, &x, dx)?;
        }
        Ok(())
    }))
}
